import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { connectPostgres, type Database } from '@millrace/postgres';
import { startNats, startPostgres, startRabbit, type TestServer, waitFor } from '@millrace/testing';
import { MillraceProcess, millrace } from './millrace-process.ts';

const servers: TestServer[] = [];
let env: Record<string, string>;
let db: Database;

beforeAll(async () => {
  const [rabbit, nats, postgres] = await Promise.all([startRabbit(), startNats(), startPostgres()]);
  servers.push(rabbit, nats, postgres);
  env = {
    AMQP_URL: rabbit.url,
    NATS_URL: nats.url,
    DATABASE_URL: postgres.url,
    MILLRACE_JOBS: fileURLToPath(new URL('../../../bench/million', import.meta.url)),
  };
  expect(await millrace(['migrate'], env)).toMatchObject({ code: 0 });
  db = await connectPostgres({ url: postgres.url });
}, 120_000);

afterAll(async () => {
  await db?.close();
  await Promise.all(servers.map((server) => server.stop()));
}, 60_000);

test('planning 1,000,000 items keeps the planner under 250 MB and the broker at its window', async () => {
  const planner = new MillraceProcess(['start', 'planner'], env);
  try {
    await waitFor(() => planner.stderr.includes('planner started'), { timeout: 30_000 });
    expect(await millrace(['run', 'million', '--key', 'm'], env)).toMatchObject({ code: 0 });
    const plan = async () => (await db.query<{ sealed: boolean; items: string }>('select sealed, items from planner.runs')).rows[0];
    await waitFor(async () => (await plan())?.sealed === true, { timeout: 120_000, what: 'the sealed plan' });
    expect(Number((await plan())?.items)).toBe(1_000_000);
    const peak = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${planner.child.pid}/status`, 'utf8'))?.[1]) / 1024;
    expect(peak).toBeLessThan(250);
    const { rows } = await db.query<{ emitted: string; all: string }>(
      `select count(*) filter (where state = 'emitted') as emitted, count(*) as all from planner.chunks`,
    );
    expect(Number(rows[0]?.all)).toBe(2_000);
    expect(Number(rows[0]?.emitted)).toBe(1_000);
    process.stderr.write(`planner peak RSS ${Math.round(peak)} MB for 1,000,000 items\n`);
  } finally {
    await planner.end('SIGTERM');
  }
}, 180_000);
