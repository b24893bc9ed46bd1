import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freePort, startNats, type TestServer, waitFor } from '@millrace/testing';

const ROOT = join(import.meta.dirname, '..');
/** Nothing listens there. */
const NOWHERE = { DATABASE_URL: 'postgres://a:b@127.0.0.1:1/c', AMQP_URL: 'amqp://127.0.0.1:1', NATS_URL: 'nats://127.0.0.1:1' };

/** Outside of the checkout, so that nothing of it can be found by accident. */
const folder = mkdtempSync(join(tmpdir(), 'millrace-build-'));

function build(project: string): string {
  const out = join(folder, project.replaceAll('/', '-'));
  execFileSync(process.execPath, ['tools/build.mjs', project, out], { cwd: ROOT, stdio: 'pipe' });
  return out;
}

function run(out: string, args: readonly string[], env: Readonly<Record<string, string>>) {
  const { PATH = '' } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['main.js', ...args], {
    cwd: out,
    env: { PATH, ...env },
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a service that was built and moved', () => {
  let planner: string;
  beforeAll(() => {
    planner = build('services/planner');
  }, 60_000);

  test('loads jobs in TypeScript that import millrace, millrace/testing and typebox', () => {
    writeFileSync(
      join(planner, 'hello.job.ts'),
      `import { defineJob } from 'millrace';
       import { runJob } from 'millrace/testing';
       import { Type } from 'typebox';
       enum Fine { Yes }
       export const hello = defineJob('hello', { params: Type.Object({ n: Type.Number() }) })
         .items(() => [{ id: Fine.Yes }], { key: (item) => item.id }).process((item) => item).commit(() => {});
       const { verdict } = await runJob(hello, { params: { n: '3' } });
       console.log('loaded', verdict);`,
    );
    const { status, stdout, stderr } = run(planner, [], { ...NOWHERE, MILLRACE_JOBS: '.' });
    expect(stdout).toBe('loaded succeeded\n');
    // Jobs come first; then there is no server.
    expect(stderr).toContain('MR3001');
    expect(status).toBe(1);
  });

  test('brings typebox in a few files, with all that it exports', () => {
    const typebox = join(planner, 'node_modules', 'typebox');
    const exportsOf = (folder: string) => Object.keys(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).exports);
    expect(exportsOf(typebox)).toEqual(exportsOf(join(ROOT, 'node_modules', 'typebox')));
    expect(readdirSync(typebox, { recursive: true }).filter((file) => String(file).endsWith('.js')).length).toBeLessThan(40);
  });

  test('a file that is no job is refused with its place', () => {
    writeFileSync(join(planner, 'bad.job.ts'), "throw new Error('not today');\n");
    expect(run(planner, [], { ...NOWHERE, MILLRACE_JOBS: 'bad.job.ts' }).stderr).toMatch(/MR2003.*not today/);
  });
});

describe('a service that loads no jobs', () => {
  let clock: string;
  let nats: TestServer;
  beforeAll(async () => {
    clock = build('services/clock');
    nats = await startNats();
  }, 60_000);
  afterAll(() => nats.stop());

  test('brings no packages', () => {
    expect(readdirSync(clock).sort()).toEqual(['files', 'main.js', 'main.js.map', 'package.json']);
  });

  test('runs, with metrics and traces, until SIGTERM', async () => {
    const port = await freePort();
    const env = { NATS_URL: nats.url, MILLRACE_HEALTH_PORT: String(port), OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' };
    const child = spawn(process.execPath, ['main.js'], { cwd: clock, env, stdio: ['ignore', 'ignore', 'pipe'] });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    const get = (path: string) => fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined);
    await waitFor(async () => child.exitCode !== null || (await get('/readyz'))?.ok === true, { timeout: 20_000 }).catch(() => {});
    expect({ ready: (await get('/readyz'))?.status, log }).toMatchObject({ ready: 200 });
    expect(await (await get('/metrics'))?.text()).toContain('millrace_build_info');
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  }, 40_000);
});

test('the command that was built and moved opens the embedded database and finds the migrations of every service', () => {
  const cli = build('shared/cli');
  writeFileSync(join(cli, 'job.mjs'), "export { hello } from './hello.mjs';\n");
  writeFileSync(
    join(cli, 'hello.mjs'),
    "import { defineJob } from 'millrace';\nexport const hello = defineJob('hello').items(() => [], { key: () => 1 }).process(() => 1).commit(() => {});\n",
  );
  const { status, stdout, stderr } = run(cli, ['doctor', '--json'], { MILLRACE_JOBS: 'job.mjs' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(JSON.parse(stdout)).toContainEqual(expect.objectContaining({ check: 'database', detail: 'reachable, schemas up to date' }));
}, 120_000);
