import { makeWorkerUtils, run, runMigrations, WorkerPreset } from 'graphile-worker';
import pg from 'pg';
import { CHUNK, chunks, digest, type Item, itemsOf } from '../workload.ts';
import type { Peer } from './peer.ts';
import { RowWriter, writeRows } from './row-writer.ts';

export const graphileWorker: Peer = {
  async reset({ postgres }) {
    await runMigrations({ connectionString: postgres });
    const client = new pg.Client({ connectionString: postgres });
    await client.connect();
    await client.query('truncate graphile_worker._private_jobs, graphile_worker._private_job_queues');
    await client.end();
  },

  async plan({ postgres }, items, chunked) {
    const utils = await makeWorkerUtils({ connectionString: postgres });
    if (chunked) {
      const all = [...chunks(items)];
      for (const [from, to] of chunks(all.length, 16))
        await utils.addJobs(all.slice(from, to).map(([first, last]) => ({ identifier: 'chunk', payload: itemsOf(first, last) })));
    } else {
      for (const [from, to] of chunks(items, 2 * CHUNK))
        await utils.addJobs(itemsOf(from, to).map((payload) => ({ identifier: 'item', payload })));
    }
    await utils.release();
  },

  /** Tuned by its page on scaling: a local queue, completions and failures in batches, many jobs at once. */
  async work({ postgres }, chunked, settled) {
    const pool = new pg.Pool({ connectionString: postgres, max: 10 });
    const writer = new RowWriter(pool);
    const runner = await run({
      pgPool: pool,
      noHandleSignals: true,
      taskList: {
        item: async (payload) => {
          const { id, payload: text } = payload as Item;
          await writer.write(id, digest(text));
        },
        chunk: async (payload) => {
          await writeRows(
            pool,
            (payload as Item[]).map((item) => ({ id: item.id, digest: digest(item.payload) })),
          );
        },
      },
      preset: {
        extends: [WorkerPreset],
        worker: {
          concurrentJobs: chunked ? 8 : CHUNK,
          maxPoolSize: 10,
          pollInterval: 500,
          localQueue: { size: chunked ? 16 : 2 * CHUNK },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
    });
    const size = (payload: unknown) => (Array.isArray(payload) ? payload.length : 1);
    // Written back, not only run.
    runner.events.on('job:complete', ({ job, error }) => (error ? settled(0, size(job.payload)) : settled(size(job.payload), 0)));
    return {
      async stop() {
        await runner.stop();
        await pool.end();
      },
    };
  },
};
