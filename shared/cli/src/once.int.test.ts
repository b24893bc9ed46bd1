import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { JobManifest } from '@millrace/core';
import { type Database, migrate, openPglite } from '@millrace/postgres';
import type { RunJson } from './console-api.ts';
import { migrationSets } from './migrations.ts';
import { Once } from './once.ts';

const job: JobManifest = {
  name: 'ticking',
  revision: 'r1',
  description: '',
  schedule: { cron: ['*/3 * * * * *'], timeZone: 'UTC', overlap: 'skip', catchUp: { mode: 'latest', window: 60_000 } },
  after: [],
  params: null,
  concurrency: 1,
  timeout: 1000,
  retry: { attempts: 1, backoff: 'fixed', base: 1, max: 1 },
  batch: { size: 10 },
  run: { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' },
};
const START = Date.parse('2026-11-24T00:00:01Z');

let db: Database;
beforeAll(async () => {
  db = await openPglite();
  await migrate(db, migrationSets);
}, 60_000);
beforeEach(() => db.query('truncate planner.ticks'));
afterAll(() => db.close());

/** One row of decided ticks, in seconds of the minute. */
const decided = (result: string, nominal: number, through = nominal) =>
  db.query(
    `insert into planner.ticks (job, nominal, through, result)
     values ('ticking', $1::timestamptz, $2::timestamptz, $3)`,
    [at(nominal), at(through), result],
  );
const at = (second: number) => `2026-11-24T00:00:${String(second).padStart(2, '0')}Z`;
const closed = async (runId: string) => ({ runId, job: 'ticking', tick: runId.split('@')[1], state: 'closed' }) as RunJson;
const finished = async (): Promise<readonly string[] | undefined> =>
  (await new Once([job], db, START).finished(closed))?.map((run) => run.runId);

test('waits until the latest tick is decided, then for its run', async () => {
  expect(await finished()).toBeUndefined();
  await decided('ran', 0);
  expect(await finished()).toEqual(['ticking@2026-11-24T00:00:00Z']);
  expect(await new Once([job], db, START).finished(async () => undefined)).toBeUndefined();
});

test('a start so slow that a newer tick is due waits for the run of that one', async () => {
  await decided('missed', 0, 3);
  await decided('ran', 6);
  await decided('skipped', 9);
  expect(await finished()).toEqual(['ticking@2026-11-24T00:00:06Z']);
});

test('a tick that was decided not to run is not waited for', async () => {
  await decided('skipped', 0);
  await decided('ran', 3);
  expect(await finished()).toEqual([]);
  await db.query('truncate planner.ticks');
  await decided('missed', 0);
  expect(await finished()).toEqual([]);
});
