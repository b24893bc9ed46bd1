import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { digestOf, SIZES } from './extreme-fixture.ts';
import { type MillraceProcess, millrace } from './millrace-process.ts';
import { type Installation, startInstallation } from './test-installation.ts';

const MIB = 1024 * 1024;
/** Seconds between heartbeats of RabbitMQ, which gives a connection up that is silent for two of them. */
const HEARTBEAT_S = 2;
/** More than those two, and more than an item may take before its job moves to child processes. */
const BUSY_MS = 7_000;
const LOST = 'lost RabbitMQ; connecting again';
const MOVED = 'this job runs in processes of its own from now on';

let env: Installation['env'];
let db: Installation['db'];
let processes: Installation['processes'];
let processor: MillraceProcess;
let stop = async () => {};

beforeAll(async () => {
  ({ env, db, processes, stop } = await startInstallation({
    services: ['planner', 'processor', 'audit', 'console'],
    jobs: fileURLToPath(new URL('./extreme-fixture.ts', import.meta.url)),
    jobCount: 2,
    heartbeat: HEARTBEAT_S,
    env: { MILLRACE_LOG_LEVEL: 'warn' },
  }));
  processor = processes[1] as MillraceProcess;
}, 180_000);

afterAll(() => stop(), 60_000);

/** Runs a job to its end; its books must balance afterwards. */
async function run(job: string, key: string, params: Readonly<Record<string, number>> = {}): Promise<Record<string, number>> {
  const given = Object.entries(params).flatMap(([name, value]) => ['--param', `${name}=${value}`]);
  const { code, stdout, stderr } = await millrace(['run', job, '--key', key, ...given, '--wait', '--timeout', '120s', '-o', 'json'], env);
  expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
  expect(await millrace(['audit', `${job}@manual:${key}`], env)).toMatchObject({ code: 0 });
  return JSON.parse(stdout).counts;
}

/** The most that a process ever had in memory. */
function peakOf({ child }: MillraceProcess): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) / 1024;
}

test('items of 16 MiB go through all brokers and tables unharmed, at their first attempt and at a later one, and memory stays bounded', async () => {
  expect(await run('huge', 'h')).toMatchObject({ planned: SIZES.length, applied: SIZES.length });
  const { rows } = await db.query<{ n: number; digest: string; text: string }>('select n, digest, text from huge_applied order by n');
  expect(rows.map(({ n }) => n)).toEqual([...SIZES.keys()]);
  for (const { n, digest, text } of rows) {
    const length = (SIZES[n] as number) - JSON.stringify([String(n), { n, text: '' }]).length;
    expect([n, digest]).toEqual([n, digestOf(String.fromCharCode(97 + (n % 26)).repeat(length))]);
    if (n % 20 === 3)
      expect([n, text.length, digestOf(text)]).toEqual([n, 16 * MIB - JSON.stringify([String(n), { n, text: '' }]).length, digest]);
  }
  const peaks = processes.map((one) => peakOf(one));
  process.stderr.write(`peak memory, MiB: ${peaks.map(Math.round).join(', ')} (planner, processor, audit, console)\n`);
  expect(Math.max(...peaks)).toBeLessThan(700);
}, 180_000);

test('an item that computes longer than two heartbeats costs one reconnection at most; later ones run beside the connection and cost none', async () => {
  // Nobody knows yet that this job keeps its process: the first item may cost the connection, and nothing else.
  const first = await run('hog', 'first', { items: 200, busy: BUSY_MS });
  expect(first).toMatchObject({ planned: 200, applied: 200, failed: 0, rejected: 0 });
  const count = (text: string) => processor.stderr.split(text).length - 1;
  expect(count(MOVED)).toBe(1);
  const before = count(LOST);
  process.stderr.write(`connections lost by the first item: ${before}\n`);
  expect(before).toBeLessThanOrEqual(2);

  const later = await run('hog', 'later', { items: 700, busy: BUSY_MS });
  expect(later).toMatchObject({ planned: 700, applied: 700, failed: 0, rejected: 0 });
  expect(count(LOST)).toBe(before);
  expect(processor.child.exitCode).toBeNull();
  const { rows } = await db.query(
    'select run, count(*)::integer as n, count(distinct n)::integer as different from hog_applied group by run order by run',
  );
  expect(rows).toEqual([
    { run: 'manual:first', n: 200, different: 200 },
    { run: 'manual:later', n: 700, different: 700 },
  ]);
}, 180_000);
