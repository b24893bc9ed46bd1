import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { connectPostgres, type Database } from '@millrace/postgres';
import { startNats, startPostgres, startRabbit, type TestServer, waitFor } from '@millrace/testing';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const ITEMS = 100_000;
/** See poison-fixture.ts: four ways to end a process. */
const KILLERS = 10;

const folder = mkdtempSync(join(tmpdir(), 'millrace-poison-'));
const servers: TestServer[] = [];
const processes = new Set<ChildProcess>();
let env: Record<string, string | undefined>;
let db: Database;
let deaths = 0;
let over = false;
let stderr = '';

/** Built, as it is deployed: processes that die often must come back quickly. */
beforeAll(async () => {
  execFileSync(process.execPath, ['tools/build.mjs', 'shared/cli', folder], { cwd: ROOT, stdio: 'pipe' });
  mkdirSync(join(folder, 'jobs'));
  cpSync(fileURLToPath(new URL('./poison-fixture.ts', import.meta.url)), join(folder, 'jobs', 'poison.job.ts'));
  const [rabbit, nats, postgres] = await Promise.all([startRabbit(), startNats(), startPostgres()]);
  servers.push(rabbit, nats, postgres);
  const urls = { AMQP_URL: rabbit.url, NATS_URL: nats.url, DATABASE_URL: postgres.url };
  env = { ...process.env, NODE_OPTIONS: '', ...urls, MILLRACE_HTTP_PORT: '0', MILLRACE_LOG_LEVEL: 'warn' };
  expect((await finished(millrace('migrate'))).code).toBe(0);
  db = await connectPostgres({ url: postgres.url });
  for (const service of ['planner', 'audit', 'console']) millrace('start', service);
  for (let i = 0; i < 2; i++) void keepRunning();
  const known = async () => (await finished(millrace('jobs', '-o', 'json'))).stdout.includes('poisonous');
  await waitFor(known, { timeout: 90_000, what: 'the planner to make the job known' });
}, 180_000);

afterAll(async () => {
  over = true;
  await Promise.all([...processes].map((child) => (child.kill('SIGKILL'), finished(child))));
  await db?.close();
  await Promise.all(servers.map((server) => server.stop()));
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

function millrace(...args: string[]): ChildProcess {
  // A heap that fills soon.
  const child = spawn(process.execPath, ['--max-old-space-size=128', join(folder, 'main.js'), ...args], { cwd: folder, env });
  processes.add(child);
  child.stderr?.on('data', (data) => (stderr = `${stderr}${data}`.slice(-4_000)));
  return child;
}

async function finished(child: ChildProcess): Promise<{ code: number | null; stdout: string }> {
  let stdout = '';
  child.stdout?.on('data', (data) => (stdout += data));
  const [code] = child.exitCode === null && child.signalCode === null ? await once(child, 'close') : [child.exitCode];
  processes.delete(child);
  return { code, stdout };
}

/** What systemd, Docker and Kubernetes do. */
async function keepRunning(): Promise<void> {
  while (!over) {
    await finished(millrace('start', 'processor'));
    deaths++;
  }
}

test('ten items that end their processes are found among 100,000, and nobody else fails', async () => {
  const run = millrace('run', 'poisonous', '--key', 'p', '--wait', '--timeout', '600s', '-o', 'json');
  const { code, stdout } = await finished(run);
  const report = stdout ? JSON.parse(stdout) : stderr;
  expect({ code, verdict: report.verdict, counts: report.counts }).toMatchObject({
    code: 6,
    verdict: 'partial',
    counts: { planned: ITEMS, applied: ITEMS - KILLERS, rejected: KILLERS, failed: 0 },
  });
  // A killer ends a processor once, while nobody knows it; afterwards it is run apart.
  expect(deaths).toBeGreaterThan(0);
  expect(deaths).toBeLessThanOrEqual(KILLERS);
  const { rows } = await db.query('select count(*)::integer as n, count(distinct n)::integer as different from poison_applied');
  expect(rows).toEqual([{ n: ITEMS - KILLERS, different: ITEMS - KILLERS }]);
  const groups = (report.failureGroups as { title: string; count: number }[]).map(({ title, count }) => `${count} ${title}`);
  expect(groups.sort()).toEqual(
    [
      '3 MR1016 Poisonous item: the process ended by SIGABRT',
      '2 MR1016 Poisonous item: the process ran out of memory',
      '5 MR1016 Poisonous item: the process exited with code <n>',
    ].sort(),
  );
  const audit = millrace('audit', 'poisonous@manual:p');
  expect((await finished(audit)).code).toBe(0);
}, 660_000);
