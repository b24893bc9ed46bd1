import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { type Database, migrate, openPglite } from '@millrace/postgres';
import type { RunJson } from './console-api.ts';
import { migrationSets } from './migrations.ts';
import { Once } from './once.ts';
import { ticking } from './tracing.job.ts';

/** `ticking` is due every three seconds. */
const START = Date.parse('2026-11-24T00:00:01Z');

let db: Database;
beforeAll(async () => {
  db = await openPglite();
  await migrate(db, migrationSets);
}, 60_000);
beforeEach(async () => {
  await db.query('truncate planner.jobs, planner.runs');
  await db.query(`insert into planner.jobs (job, revision, manifest, last_nominal) values ('ticking', 'r1', '{}', '2026-11-23T23:59:57Z')`);
});
afterAll(() => db.close());

const at = (second: number) => `2026-11-24T00:00:${String(second).padStart(2, '0')}Z`;

/** Ticks are decided up to a second of the minute; of these one has a run. */
async function decided(until: number, ran?: number): Promise<void> {
  await db.query(`update planner.jobs set last_nominal = $1::timestamptz`, [at(until)]);
  if (ran !== undefined)
    await db.query(
      `insert into planner.runs (run_id, job, tick, nominal, cause, params, manifest, trace, state, opened_at)
       values ('ticking@' || $1::text, 'ticking', $1::text, $1::timestamptz, 'tick', '{}', '{}', '{}', 'opened', now())`,
      [at(ran)],
    );
}

const closed = async (runId: string) => ({ runId, job: 'ticking', tick: runId.split('@')[1], state: 'closed' }) as RunJson;
const finished = async (): Promise<readonly string[] | undefined> =>
  (await new Once([ticking.manifest], db, START).finished(closed))?.map((run) => run.runId);

test('waits until the latest tick is decided, then for its run', async () => {
  expect(await finished()).toBeUndefined();
  await decided(0, 0);
  expect(await finished()).toEqual(['ticking@2026-11-24T00:00:00Z']);
  expect(await new Once([ticking.manifest], db, START).finished(async () => undefined)).toBeUndefined();
});

test('a start so slow that the latest tick is missed for a newer one waits for the run of that one', async () => {
  await decided(6, 6);
  await decided(9, 9);
  expect(await finished()).toEqual(['ticking@2026-11-24T00:00:06Z']);
});

test('a tick that was decided not to run is not waited for', async () => {
  await decided(0);
  expect(await finished()).toEqual([]);
});

test('a run that is being deleted is not waited for', async () => {
  await decided(0, 0);
  await db.query('update planner.runs set purged_at = now()');
  expect(await finished()).toEqual([]);
});
