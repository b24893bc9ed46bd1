import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { JOBS_BUCKET, type JobManifest, Tick } from '@millrace/core';
import { connectJetStream, type EventBroker } from '@millrace/messaging';
import { freePort, startNats, type TestServer, waitFor } from '@millrace/testing';

let nats: TestServer;
let events: EventBroker;
let child: ChildProcess | undefined;
let output = '';

beforeAll(async () => {
  nats = await startNats();
  events = await connectJetStream({ url: nats.url });
}, 60_000);
afterEach(() => void child?.kill('SIGKILL'));
afterAll(async () => {
  await events?.close();
  await nats?.stop();
});

function run(env: Record<string, string>): ChildProcess {
  output = '';
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(NODE_OPTIONS|MILLRACE_|AMQP_|NATS_|DATABASE_)/.test(name)),
  );
  child = spawn(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('./main.ts', import.meta.url))], {
    env: { ...inherited, ...env },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  child.stderr?.on('data', (data) => (output += String(data)));
  return child;
}

const manifest: JobManifest = {
  name: 'each-second',
  revision: 'r1',
  description: '',
  after: [],
  params: {},
  concurrency: 1,
  timeout: 1,
  schedule: { cron: ['* * * * * *'], timeZone: 'UTC', overlap: 'skip', catchUp: { mode: 'latest', window: 86_400_000 } },
  retry: { attempts: 1, backoff: 'fixed', base: 1, max: 1 },
  batch: { size: 1 },
  run: { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' },
};

test('the process publishes ticks over JetStream, tells that it is ready, and ends with 0 when asked to', async () => {
  const seen: number[] = [];
  await events.bucket(JOBS_BUCKET).put(manifest.name, JSON.stringify(manifest));
  await events.subscribe('millrace.ticks.>', { durable: 'test' }, async (deliveries) =>
    deliveries.map((delivery) => {
      const read = Tick.read(delivery);
      if (read.ok) seen.push(read.message.data.nominal);
      return { kind: 'done' };
    }),
  );
  const port = await freePort();
  const clock = run({ NATS_URL: nats.url, MILLRACE_HEALTH_PORT: String(port) });
  await waitFor(() => seen.length >= 3, { timeout: 20_000 });
  expect(seen.map((nominal) => nominal - (seen[0] ?? 0)).slice(0, 3)).toEqual([0, 1_000, 2_000]);
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
  clock.kill('SIGTERM');
  expect((await once(clock, 'exit'))[0]).toBe(0);
  expect(output).toContain('clock stopped');
}, 60_000);

test('without a server the process says what to set, and no stack', async () => {
  const [code] = await once(run({ MILLRACE_CLOCK_POLL: '2s' }), 'exit');
  expect([code, output]).toEqual([1, expect.stringMatching(/^MR2001 Invalid configuration: NATS_URL not set.*\n {2}fix: .*\n$/)]);
}, 60_000);

test('an option that is wrong is found before any connection', async () => {
  const [code] = await once(run({ NATS_URL: 'nats://127.0.0.1:1', MILLRACE_CLOCK_POLL: 'often' }), 'exit');
  expect([code, output]).toEqual([1, expect.stringContaining('MILLRACE_CLOCK_POLL is "often"; expected a duration')]);
}, 60_000);

test('a process that is asked to end while it still connects ends at once, with 0', async () => {
  const silent = createServer().listen(0, '127.0.0.1');
  const connected = once(silent, 'connection');
  await once(silent, 'listening');
  const process = run({ NATS_URL: `nats://127.0.0.1:${(silent.address() as AddressInfo).port}` });
  const ended = once(process, 'exit');
  const [socket] = await connected;
  process.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
  socket.destroy();
  silent.close();
}, 30_000);
