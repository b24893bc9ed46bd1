import pg from 'pg';
import PgBoss from 'pg-boss';
import { CHUNK, chunks, digest, type Item, itemsOf } from '../workload.ts';
import type { Peer } from './peer.ts';
import { writeRows } from './row-writer.ts';

const QUEUE = 'checksum';
/** Fetch loops of the worker; each has its own connection, so that one fetches while another commits. */
const LOOPS = 3;

export const pgBoss: Peer = {
  async reset({ postgres }) {
    const boss = await start(postgres);
    await boss.createQueue(QUEUE, { name: QUEUE, retryLimit: 5 });
    await boss.clearStorage();
    await boss.stop({ graceful: false });
  },

  async plan({ postgres }, items, chunked) {
    const boss = await start(postgres);
    if (chunked) {
      const all = [...chunks(items)];
      for (const [from, to] of chunks(all.length, 16))
        await boss.insert(all.slice(from, to).map(([first, last]) => ({ name: QUEUE, data: { items: itemsOf(first, last) } })));
    } else {
      for (const [from, to] of chunks(items, 2 * CHUNK)) await boss.insert(itemsOf(from, to).map((data) => ({ name: QUEUE, data })));
    }
    await boss.stop({ graceful: false });
  },

  /** Rows and completions in one transaction per batch: pg-boss takes a foreign connection for that. */
  async work({ postgres }, chunked, settled) {
    const boss = await start(postgres);
    const pool = new pg.Pool({ connectionString: postgres, max: LOOPS });
    let stopped = false;
    const loop = async () => {
      while (!stopped) {
        const jobs = await boss.fetch<Item | { items: Item[] }>(QUEUE, { batchSize: chunked ? 4 : CHUNK });
        if (jobs.length === 0) {
          await new Promise((resolve) => setTimeout(resolve, 20));
          continue;
        }
        const items = jobs.flatMap(({ data }) => ('items' in data ? data.items : [data]));
        const client = await pool.connect();
        try {
          await client.query('begin');
          await writeRows(
            client,
            items.map(({ id, payload }) => ({ id, digest: digest(payload) })),
          );
          const db = { executeSql: (text: string, values: unknown[]) => client.query(text, values) };
          // Its types leave out the data that its code expects before the options.
          const complete = boss.complete.bind(boss) as unknown as (
            queue: string,
            ids: string[],
            data: object,
            options: object,
          ) => Promise<void>;
          const ids = jobs.map(({ id }) => id);
          await complete(QUEUE, ids, {}, { db });
          await client.query('commit');
        } finally {
          client.release();
        }
        settled(items.length, 0);
      }
    };
    const loops = Array.from({ length: LOOPS }, loop);
    return {
      async stop() {
        stopped = true;
        await Promise.all(loops);
        await pool.end();
        await boss.stop({ graceful: false });
      },
    };
  },
};

async function start(connectionString: string): Promise<PgBoss> {
  const boss = new PgBoss({ connectionString, max: LOOPS, supervise: false, schedule: false });
  boss.on('error', (error) => process.stderr.write(`${error}\n`));
  return boss.start();
}
