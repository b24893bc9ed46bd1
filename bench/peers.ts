import { fileURLToPath } from 'node:url';
import { Child } from './child.ts';
import type { Contender } from './contender.ts';
import { peers } from './peers/index.ts';
import type { Servers } from './servers.ts';

const FILE = fileURLToPath(new URL('./peers/process.ts', import.meta.url));

export const peerContenders: readonly Contender[] = [
  peer('bullmq', 'BullMQ', ['redis', 'postgres']),
  peer('pg-boss', 'pg-boss', ['postgres']),
  peer('graphile-worker', 'graphile-worker', ['postgres']),
].flat();

/** Each peer twice: with one queue entry per item, and with 500 items per entry. It plans in one process and works in another. */
function peer(name: string, label: string, uses: readonly (keyof Servers)[]): Contender[] {
  return (['item', 'chunked'] as const).map((kind) => ({
    name: kind === 'item' ? name : `${name}-chunks`,
    label: kind === 'item' ? label : `${label}, chunks by hand`,
    kind,
    uses,
    writes: true,
    async open(servers) {
      const urls = { postgres: servers.postgres.url, redis: servers.redis.url };
      await peers[name]?.reset(urls);
      const env = { POSTGRES: urls.postgres, REDIS: urls.redis };
      const planner = new Child(FILE, [name, 'planner', kind], env);
      const worker = new Child(FILE, [name, 'worker', kind], env);
      await Promise.all([planner.hear('ready'), worker.hear('ready')]);
      return {
        processes: { planner: [planner.pid], worker: [worker.pid] },
        async run(items) {
          worker.tell({ items });
          planner.tell({ items });
          const [settled] = await Promise.all([worker.hear('settled'), planner.hear('planned')]);
          if (settled['done'] !== items) throw new Error(`${name} did ${settled['done']} of ${items} items, ${settled['failed']} failed`);
        },
        async close() {
          await Promise.all([planner.end('SIGKILL'), worker.end('SIGKILL')]);
        },
      };
    },
  }));
}
