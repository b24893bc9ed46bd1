import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { columns, defineJob, PermanentError, postgres, TransientError } from 'millrace';
import Type from 'typebox';
import { fateOf } from '../items.ts';

/** No key and no conflict handling: an effect that is applied twice is a second row, not an error and not a silence. */
const SETUP = `create table if not exists chaos_effects (run text not null, item integer not null, value integer not null check (value >= 0))`;
const INSERT = 'insert into chaos_effects (run, item, value) select * from unnest($1::text[], $2::integer[], $3::integer[])';

/** Each so many-th item writes down that it was called, in a file that survives the death of the process. */
const SAMPLE = 100;
const calls = process.env['CHAOS_CALLS'];

export const chaos = defineJob('chaos', {
  description: 'Synthetic items whose fate is known beforehand',
  params: Type.Object({ items: Type.Integer(), killerEvery: Type.Integer({ default: 0 }), pace: Type.Integer({ default: 0 }) }),
  retry: { attempts: 3, base: '200ms', max: '2s' },
  tolerate: { percent: 100 },
  timeout: '10s',
})
  .items(
    function* ({ params, cursor, checkpoint }) {
      for (let item = typeof cursor === 'number' ? cursor : 0; item < params.items; item++) {
        yield { item };
        if (item % 4_096 === 4_095) yield checkpoint(item + 1);
      }
    },
    { key: ({ item }) => item },
  )
  .process(async ({ item }, { params, tick, attempt, skip, reject }) => {
    if (calls && item % SAMPLE === 0) appendFileSync(calls, `${tick.id} ${item} ${attempt}\n`);
    if (params.pace > 0) await delay(params.pace);
    const run = `chaos@${tick.id}`;
    switch (fateOf(item, params)) {
      case 'skipped':
        return skip('nothing to do');
      case 'rejected':
        return reject('never');
      case 'broken':
        throw new PermanentError('broken for good');
      case 'flaky':
        if (attempt === 1) throw new TransientError('not yet');
        break;
      case 'refused':
        return { run, item, value: -1 };
      case 'killer':
        return kill(Math.floor(item / params.killerEvery) % 3);
    }
    return { run, item, value: item % 1_000 };
  })
  .commit(postgres({ setup: SETUP }, (effects, tx) => tx.query(INSERT, columns(effects, 'run', 'item', 'value'))));

/** Due every ten seconds, so that clocks have work: no tick may be lost, doubled or early. */
export const chaosTick = defineJob('chaos-tick', {
  description: 'A few items every ten seconds',
  schedule: { cron: '*/10 * * * * *', overlap: 'allow', catchUp: { mode: 'all', window: '2h' } },
})
  .items(() => Array.from({ length: 20 }, (_, item) => ({ item })), { key: ({ item }) => item })
  .process(({ item }, { tick }) => ({ run: `chaos-tick@${tick.id}`, item, value: item }))
  .commit(postgres({ setup: SETUP }, (effects, tx) => tx.query(INSERT, columns(effects, 'run', 'item', 'value'))));

/** The three ways in which user code takes a process with it. */
function kill(way: number): never {
  if (way === 0) process.exit(13);
  const hoard: unknown[] = [];
  for (;;) if (way === 1) hoard.push(new Array(100_000).fill(hoard.length));
}
