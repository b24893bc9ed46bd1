import { readdirSync, readFileSync } from 'node:fs';
import { PGlite } from '@electric-sql/pglite';
import { type Counts, countStates, type Envelope, JOBS_BUCKET, type JobManifest, noCounts, sumCounts, type Time } from '@millrace/core';
import { openMemoryBrokers } from '@millrace/messaging';
import type { Queryable } from '@millrace/postgres';
import { PostgresBooks } from './adapters/postgres-books.ts';
import { PostgresLedger } from './adapters/postgres-ledger.ts';
import { type App, buildApp } from './app.ts';
import { BucketRegistry } from './registry.ts';

/** For tests: an app over the real schemas in memory, with one job and a way to write runs into the books. */
export interface Fixture {
  readonly app: App;
  readonly db: Queryable;
  readonly sent: Envelope[];
  readonly now: { at: number };
  addRun(run: {
    runId: string;
    state?: string;
    counts?: Partial<Counts>;
    planned?: number;
    openedAt?: number;
    verdict?: string;
  }): Promise<void>;
  /** Writes one chunk into plan, ledger and inbox. */
  addChunk(runId: string, seq: number, keys: readonly string[], outcomes: string, generation?: number): Promise<void>;
  close(): Promise<void>;
}

export const manifest: JobManifest = {
  name: 'refresh',
  revision: 'r1',
  description: '',
  schedule: { cron: ['*/15 * * * *'], timeZone: 'UTC', overlap: 'skip', catchUp: { mode: 'latest', window: 0 } },
  after: [],
  params: null,
  concurrency: 1,
  timeout: 1000,
  retry: { attempts: 1, backoff: 'fixed', base: 1, max: 1 },
  batch: { size: 10 },
  run: { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' },
};

export async function openFixture(): Promise<Fixture> {
  const pglite = await PGlite.create();
  for (const service of ['planner', 'audit', 'processor']) {
    const folder = new URL(`../../${service}/migrations/`, import.meta.url);
    for (const file of readdirSync(folder).sort()) await pglite.exec(readFileSync(new URL(file, folder), 'utf8'));
  }
  const db: Queryable = {
    async query<Row>(sql: string, params: readonly unknown[] = []) {
      const { rows, affectedRows } = await pglite.query<Row>(sql, [...params]);
      return { rows, rowCount: affectedRows ?? rows.length };
    },
  };
  const now = { at: Date.parse('2026-11-24T00:20:00Z') };
  // Waits really, tells the time of the test.
  const time: Time = {
    now: () => now.at,
    sleep: (duration, signal) =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, Math.min(duration, 20));
        signal?.addEventListener(
          'abort',
          () => {
            clearTimeout(timer);
            resolve();
          },
          { once: true },
        );
      }),
  };
  const { events } = openMemoryBrokers();
  await events.bucket(JOBS_BUCKET).put(manifest.name, JSON.stringify(manifest));
  const sent: Envelope[] = [];
  const publisher = {
    system: events.system,
    publish: async (messages: readonly Envelope[]) => {
      sent.push(...messages);
      await events.publish(messages);
    },
  };
  const quiet = { warn: () => undefined, error: () => undefined };
  const app = await buildApp({
    ledger: new PostgresLedger(db),
    books: new PostgresBooks(db, 0),
    registry: new BucketRegistry(events),
    publisher,
    log: quiet,
    time,
    random: () => 0.5,
    inboxRetention: 30 * 86_400_000,
    hosts: ['localhost'],
  });
  const addPass = (runId: string, generation: number, verdict: string | null, duplicates: number) =>
    db.query(
      `insert into audit.generations (run_id, generation, opened_at, planned_at, closed_at, verdict, duplicates)
       values ($1, $2, now(), now(), case when $3::text is not null then now() end, $3, $4) on conflict do nothing`,
      [runId, generation, verdict, duplicates],
    );
  return {
    app,
    db,
    sent,
    now,
    async addRun({ runId, state = 'closed', counts: given = {}, planned, openedAt = now.at - 10_000, verdict }) {
      const counts = { ...noCounts(), ...given };
      const sum = Object.values(counts).reduce((a, b) => a + b, 0);
      const [job, tick] = runId.split('@');
      const at = (ms: number) => new Date(ms).toISOString();
      await db.query(
        `insert into audit.runs (run_id, job, tick, cause, params, manifest, state, verdict, opened_at, closed_at, planned, ${Object.keys(counts).join(', ')}, updated_at)
         values ($1, $2, $3, 'trigger', '{}', '{}', $4, $5, $6, $7, $8, ${Object.values(counts).join(', ')}, now())`,
        [
          runId,
          job,
          tick,
          state,
          state === 'closed' ? (verdict ?? 'succeeded') : null,
          at(openedAt),
          state === 'closed' ? at(openedAt + 4_000) : null,
          planned ?? sum,
        ],
      );
      await db.query(
        `insert into planner.runs (run_id, job, tick, cause, params, manifest, state, opened_at, items, duplicates, sealed) values ($1, $2, $3, 'trigger', '{}', '{"inbox":"here"}', $4, $5, $6, $7, true)`,
        [runId, job, tick, state, at(openedAt), (planned ?? sum) - counts.duplicate, counts.duplicate],
      );
      await addPass(runId, 0, state === 'closed' ? (verdict ?? 'succeeded') : null, counts.duplicate);
    },
    async addChunk(runId, seq, keys, outcomes, generation = 0) {
      const job = runId.split('@')[0];
      await db.query(
        `insert into planner.chunks (run_id, generation, seq, job, size, payload, state, outcomes) values ($1, $2, $3, $4, $5, $6, 'settled', $7)`,
        [runId, generation, seq, job, keys.length, generation === 0 ? JSON.stringify(keys.map((key) => [key, {}])) : null, outcomes],
      );
      if (generation === 0) await db.query('update planner.runs set next_seq = greatest(next_seq, $2) where run_id = $1', [runId, seq + 1]);
      else {
        await db.query('update planner.runs set generation = $2 where run_id = $1', [runId, generation]);
        await db.query('update audit.runs set generation = $2 where run_id = $1', [runId, generation]);
        await addPass(runId, generation, 'succeeded', 0);
      }
      const { counts, open } = countStates(outcomes);
      await db.query(
        `update audit.generations set items = coalesce(items, 0) + $3, final = (
           select jsonb_object_agg(key, coalesce((final ->> key)::bigint, 0) + value::bigint) from jsonb_each_text($4::jsonb))
         where run_id = $1 and generation = $2`,
        [runId, generation, sumCounts(counts) + open, JSON.stringify(counts)],
      );
      await db.query(`insert into audit.chunks values ($1, $2, $3, $4, 1, $5, '{}', 0, 0, 0, now())`, [
        runId,
        generation,
        seq,
        keys.length,
        outcomes,
      ]);
      await db.query(
        `insert into millrace.inbox (run_id, generation, seq, job, size, attempt, outcomes, failures, skips, queued_ms, process_ms, commit_ms) values ($1, $2, $3, $4, $5, 1, $6, '[]', '{}', 0, 0, 0)`,
        [runId, generation, seq, job, keys.length, outcomes],
      );
    },
    async close() {
      await app.close();
      await events.close();
      await pglite.close();
    },
  };
}
