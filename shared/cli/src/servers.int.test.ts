import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { connectPostgres, type Database } from '@millrace/postgres';
import { startNats, startPostgres, startRabbit, type TestServer, waitFor } from '@millrace/testing';
import { MillraceProcess, millrace } from './millrace-process.ts';

const CITIES = 138_398;
/** Two clocks, two planners and two processors: replicas must not change a number. */
const SERVICES = ['clock', 'clock', 'planner', 'planner', 'processor', 'processor', 'audit', 'console'];

describe('the services as separate processes on RabbitMQ, NATS and PostgreSQL', () => {
  const servers: TestServer[] = [];
  const processes: MillraceProcess[] = [];
  let env: Record<string, string>;
  let db: Database;

  beforeAll(async () => {
    const [rabbit, nats, postgres] = await Promise.all([startRabbit(), startNats(), startPostgres()]);
    servers.push(rabbit, nats, postgres);
    env = { AMQP_URL: rabbit.url, NATS_URL: nats.url, DATABASE_URL: postgres.url, MILLRACE_HTTP_PORT: '0', MILLRACE_ENV: 'dev' };
    const refused = await millrace(['start', 'planner'], env);
    expect(refused.stderr).toContain('MR3010');
    expect(await millrace(['migrate'], env)).toMatchObject({ code: 0 });
    db = await connectPostgres({ url: postgres.url });
    processes.push(...SERVICES.map((service) => new MillraceProcess(['start', service], env)));
  }, 120_000);

  afterAll(async () => {
    await Promise.all(processes.map((one) => one.end('SIGKILL')));
    await db?.close();
    await Promise.all(servers.map((server) => server.stop()));
  }, 60_000);

  test('a triggered run over all cities ends balanced, and its audit finds nothing', async () => {
    const run = await millrace(['run', 'sunrise-table', '--key', 'first', '--wait', '--timeout', '120s', '-o', 'json'], env);
    expect({ code: run.code, stderr: run.code === 0 ? '' : run.stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(run.stdout);
    expect(report).toMatchObject({ runId: 'sunrise-table@manual:first', verdict: 'succeeded', counts: { planned: CITIES, failed: 0 } });
    expect(report.counts.applied + report.counts.skipped).toBe(CITIES);
    const { rows } = await db.query<{ n: string }>('select count(*) as n from sunrise');
    expect(Number(rows[0]?.n)).toBeGreaterThanOrEqual(report.counts.applied);
    expect(await millrace(['audit', 'sunrise-table@manual:first'], env)).toMatchObject({ code: 0 });
  }, 180_000);

  test('the same key asks for the same run', async () => {
    const again = await millrace(['run', 'sunrise-table', '--key', 'first', '--wait', '-o', 'json'], env);
    expect(JSON.parse(again.stdout).runId).toBe('sunrise-table@manual:first');
    const { rows } = await db.query(`select 1 from planner.runs where run_id = 'sunrise-table@manual:first'`);
    expect(rows).toHaveLength(1);
  }, 60_000);

  test('the dependent ran on the tick of its cause', async () => {
    await waitFor(
      async () => {
        const { rows } = await db.query<{ verdict: string }>(
          `select verdict from audit.runs where run_id = 'longest-days@manual:first' and state = 'closed'`,
        );
        return rows[0]?.verdict === 'succeeded';
      },
      { timeout: 60_000 },
    );
  }, 90_000);

  test('two clocks give one run per tick', async () => {
    const ticks = async () =>
      (
        await db.query<{ run_id: string }>(
          `select run_id from audit.runs where job = 'sunrise-table' and cause = 'tick' and state = 'closed'`,
        )
      ).rows;
    await waitFor(async () => (await ticks()).length >= 1, { timeout: 120_000 });
    const { rows } = await db.query<{ doubled: string }>(
      'select count(*) as doubled from (select job, nominal from planner.runs where nominal is not null group by 1, 2 having count(*) > 1) d',
    );
    expect(Number(rows[0]?.doubled)).toBe(0);
    for (const { run_id } of await ticks()) expect(await millrace(['audit', run_id], env)).toMatchObject({ code: 0 });
  }, 150_000);

  test('transient failures are retried, bad ids rejected, and a redrive takes exactly the failed items', async () => {
    const run = await millrace(['run', 'refresh-transactions', '--key', 'r1', '--wait', '--timeout', '90s', '-o', 'json'], env);
    const first = JSON.parse(run.stdout);
    const bad = first.counts.failed + first.counts.rejected;
    expect(bad).toBeGreaterThan(0);
    expect(first.failureGroups.reduce((sum: number, group: { count: number }) => sum + group.count, 0)).toBe(bad);
    expect(first.counts.applied + first.counts.skipped + bad).toBe(first.counts.planned);
    expect([5, 6]).toContain(run.code);

    const redriven = await millrace(['redrive', first.runId, '--yes', '--wait', '--timeout', '90s', '-o', 'json'], env);
    const second = JSON.parse(redriven.stdout);
    expect(second).toMatchObject({ runId: first.runId, generation: 1, counts: { planned: first.counts.planned } });
    const { rows } = await db.query<{ items: string }>('select items from audit.generations where run_id = $1 and generation = 1', [
      first.runId,
    ]);
    expect(Number(rows[0]?.items)).toBe(bad);
    expect(await millrace(['audit', first.runId], env)).toMatchObject({ code: 0 });
  }, 200_000);

  test('an audit of books somebody changed by hand fails and names what is lost', async () => {
    await db.query(`delete from millrace.inbox where run_id = 'sunrise-table@manual:first' and seq = 3`);
    const audit = await millrace(['audit', '--all'], env);
    expect(audit.code).toBe(9);
    expect(audit.stdout).toMatch(
      /^MR4003 sunrise-table@manual:first: chunk missing in inbox: [^\n]+\n\d+ runs: \d+ balanced, \d+ open and so far balanced, 1 with leaks\n$/,
    );
  }, 120_000);

  test('every service ends with 0 on SIGTERM', async () => {
    const ended = await Promise.all(processes.map((one) => one.end('SIGTERM')));
    expect(ended.map((one, i) => [SERVICES[i], one.code])).toEqual(SERVICES.map((service) => [service, 0]));
  }, 60_000);
});
