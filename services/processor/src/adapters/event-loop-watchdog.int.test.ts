import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from '@jest/globals';
import { waitFor } from '@millrace/testing';

/** See watchdog-fixture.ts: an item has one second, and the watchdog another one beyond it. */
const FIXTURE = fileURLToPath(new URL('./watchdog-fixture.ts', import.meta.url));
const LIMIT_MS = 2_000;

interface Watched {
  readonly child: ChildProcess;
  stdout: string;
  stderr: string;
}

const started: Watched[] = [];
afterEach(() => {
  for (const { child } of started.splice(0)) child.kill('SIGKILL');
});

async function start(): Promise<Watched> {
  const child = spawn(process.execPath, ['--import', 'tsx', FIXTURE], { stdio: 'pipe' });
  const watched: Watched = { child, stdout: '', stderr: '' };
  started.push(watched);
  child.stdout.setEncoding('utf8').on('data', (text) => (watched.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (watched.stderr += text));
  await waitFor(() => watched.stdout.includes('ready'), { timeout: 20_000, what: 'the process to start' });
  return watched;
}

/** How a process ends that keeps its event loop like this. */
async function endOf(
  watched: Watched,
  where: 'item' | 'between' | 'closed',
  busy: number,
): Promise<{ code: number | null; signal: string | null }> {
  const ended = once(watched.child, 'close');
  watched.child.stdin?.write(`${where} ${busy}\n`);
  const [code, signal] = await ended;
  return { code, signal };
}

describe('the watchdog of a processor', () => {
  test('ends a process whose item keeps the event loop beyond its time, and says which item of which chunk', async () => {
    const watched = await start();
    const began = performance.now();
    expect(await endOf(watched, 'item', 60_000)).toEqual({ code: null, signal: 'SIGKILL' });
    const took = performance.now() - began;
    expect(took).toBeGreaterThan(LIMIT_MS - 600);
    expect(took).toBeLessThan(20_000);
    const { level, msg } = JSON.parse(watched.stderr);
    expect(level).toBe('fatal');
    expect(msg).toMatch(
      /stuck for \d+ ms in item 2 of a chunk of sync \(the latest one begun is sync@manual:1\/0\/7\); ending this process/,
    );
  }, 60_000);

  test('ends a process that keeps the event loop outside of any item', async () => {
    const watched = await start();
    expect(await endOf(watched, 'between', 60_000)).toEqual({ code: null, signal: 'SIGKILL' });
    expect(JSON.parse(watched.stderr).msg).toMatch(/stuck for \d+ ms; ending this process/);
  }, 60_000);

  test('leaves an item alone that is merely slower than it should be', async () => {
    const watched = await start();
    expect(await endOf(watched, 'item', 1_200)).toEqual({ code: 0, signal: null });
    expect(watched).toMatchObject({ stdout: 'ready\nover\n', stderr: '' });
  }, 60_000);

  test('does not take a process for stuck that was stopped, as on a machine that slept', async () => {
    const watched = await start();
    watched.child.kill('SIGSTOP');
    // Nothing tells of the passing of time but time.
    await delay(LIMIT_MS + 1_500);
    watched.child.kill('SIGCONT');
    expect(await endOf(watched, 'item', 1_200)).toEqual({ code: 0, signal: null });
    expect(watched.stderr).toBe('');
  }, 60_000);

  test('watches no more once it is closed', async () => {
    const watched = await start();
    expect(await endOf(watched, 'closed', LIMIT_MS + 1_500)).toEqual({ code: 0, signal: null });
    expect(watched.stderr).toBe('');
  }, 60_000);
});
