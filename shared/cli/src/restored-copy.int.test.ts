import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { waitFor } from '@millrace/testing';
import { millrace } from './millrace-process.ts';
import { type Installation, startInstallation } from './test-installation.ts';

/** Some 90 chunks, and slow enough that the copy is taken while they are worked on. */
const ITEMS = 40_000;
const RUN = 'hog@manual:restored';
const BEFORE = 'hog@manual:before';

let env: Installation['env'];
let db: Installation['db'];
let stop = async () => {};

beforeAll(async () => {
  ({ env, db, stop } = await startInstallation({
    services: ['planner', 'processor', 'audit'],
    jobs: fileURLToPath(new URL('./extreme-fixture.ts', import.meta.url)),
    jobCount: 2,
  }));
}, 180_000);

afterAll(() => stop(), 60_000);

const run = (key: string, items: number, ...wait: string[]) =>
  millrace(['run', 'hog', '--key', key, '--param', `items=${items}`, '--param', 'busy=20', ...wait], env);
const settled = async () =>
  Number((await db.query<{ n: string }>('select count(*) as n from millrace.inbox where run_id = $1', [RUN])).rows[0]?.n);

test('when an older copy of effects and inbox comes back, the audit names every item whose effect went with the newer one, and no other', async () => {
  expect((await run('before', 1_000, '--wait')).code).toBe(0);
  expect((await run('restored', ITEMS)).code).toBe(0);
  await waitFor(async () => (await settled()) >= 20, { timeout: 60_000, what: 'some chunks to settle' });
  // As of one moment: whoever has an inbox row has its effects.
  await db.transaction(async (tx) => {
    await tx.query('lock table hog_applied in exclusive mode');
    await tx.query('create table old_inbox as select * from millrace.inbox');
    await tx.query('create table old_effects as select * from hog_applied');
  });
  const closed = `select 1 from audit.runs l join planner.runs p using (run_id) where run_id = $1 and l.state = 'closed' and p.state = 'closed'`;
  await waitFor(async () => (await db.query(closed, [RUN])).rows.length === 1, { timeout: 90_000, what: 'the run to close' });
  expect(await millrace(['audit', '--all'], env)).toMatchObject({ code: 0 });

  const { rows: lost } = await db.query<{ key: string }>(
    `select n::text as key from hog_applied where run = 'manual:restored' except select n::text from old_effects where run = 'manual:restored'`,
  );
  expect(lost.length).toBeGreaterThan(0);
  expect(lost.length).toBeLessThan(ITEMS);
  await db.transaction(async (tx) => {
    for (const [table, copy] of [
      ['millrace.inbox', 'old_inbox'],
      ['hog_applied', 'old_effects'],
    ]) {
      await tx.query(`truncate ${table}`);
      await tx.query(`insert into ${table} select * from ${copy}`);
    }
  });

  const audit = await millrace(['audit', RUN, '-o', 'json'], env);
  expect(audit.code).toBe(9);
  const { ok, problems } = JSON.parse(audit.stdout) as { ok: boolean; problems: { what: string; keys: string[] }[] };
  expect(ok).toBe(false);
  expect(new Set(problems.map(({ what }) => what))).toEqual(new Set(['chunk missing in inbox']));
  expect(problems.flatMap(({ keys }) => keys).sort()).toEqual(lost.map(({ key }) => key).sort());
  expect(await millrace(['audit', BEFORE], env)).toMatchObject({ code: 0 });
}, 240_000);
