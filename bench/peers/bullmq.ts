import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';
import { chunks, digest, type Item, itemsOf } from '../workload.ts';
import type { Peer } from './peer.ts';
import { RowWriter, writeRows } from './row-writer.ts';

const QUEUE = 'checksum';
/** Jobs added in one call: addBulk is what the documents advise for many. */
const BULK = 1_000;
/** "Going to production" advises removing finished jobs; concurrency as high as the work, which waits for PostgreSQL, can use. */
const CONCURRENCY = 500;

export const bullmq: Peer = {
  async reset({ redis }) {
    const connection = new Redis(redis, { maxRetriesPerRequest: null });
    await connection.flushall();
    connection.disconnect();
  },

  async plan({ redis }, items, chunked) {
    const connection = new Redis(redis, { maxRetriesPerRequest: null });
    const queue = new Queue(QUEUE, { connection, defaultJobOptions: { removeOnComplete: true, removeOnFail: false } });
    if (chunked) {
      const all = [...chunks(items)];
      for (const [from, to] of chunks(all.length, 16))
        await queue.addBulk(all.slice(from, to).map(([first, last]) => ({ name: 'chunk', data: itemsOf(first, last) })));
    } else {
      for (const [from, to] of chunks(items, BULK))
        await queue.addBulk(itemsOf(from, to).map((data) => ({ name: 'item', data, opts: { attempts: 5 } })));
    }
    await queue.close();
    connection.disconnect();
  },

  async work({ redis, postgres }, chunked, settled) {
    const connection = new Redis(redis, { maxRetriesPerRequest: null });
    const pool = new pg.Pool({ connectionString: postgres, max: 4 });
    const writer = new RowWriter(pool);
    const worker = new Worker<Item | Item[]>(
      QUEUE,
      async ({ data }) => {
        if (Array.isArray(data)) {
          await writeRows(
            pool,
            data.map(({ id, payload }) => ({ id, digest: digest(payload) })),
          );
        } else await writer.write(data.id, digest(data.payload));
      },
      { connection, concurrency: chunked ? 8 : CONCURRENCY },
    );
    worker.on('completed', ({ data }) => settled(Array.isArray(data) ? data.length : 1, 0));
    worker.on('failed', (job) => settled(0, Array.isArray(job?.data) ? job.data.length : 1));
    await worker.waitUntilReady();
    return {
      async stop() {
        await worker.close();
        connection.disconnect();
        await pool.end();
      },
    };
  },
};
