// One side of a peer in a process of its own: `planner` or `worker`.
import { peers } from './index.ts';

const [name = '', side, granularity] = process.argv.slice(2);
const peer = peers[name];
if (!peer) throw new Error(`no peer is called "${name}"`);
const chunked = granularity === 'chunked';
const urls = { postgres: process.env['POSTGRES'] ?? '', redis: process.env['REDIS'] ?? '' };
const say = (message: object) => process.send?.(message);

let expected = Number.POSITIVE_INFINITY;
let done = 0;
let failed = 0;
const look = () => {
  if (done + failed < expected) return;
  say({ kind: 'settled', done, failed });
  expected = Number.POSITIVE_INFINITY;
  done = 0;
  failed = 0;
};

if (side === 'planner') {
  process.on('message', async ({ items }: { items: number }) => {
    await peer.plan(urls, items, chunked);
    say({ kind: 'planned' });
  });
} else {
  await peer.work(urls, chunked, (more, worse) => {
    done += more;
    failed += worse;
    look();
  });
  process.on('message', ({ items }: { items: number }) => {
    expected = items;
    look();
  });
}
say({ kind: 'ready' });
