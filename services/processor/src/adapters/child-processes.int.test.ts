import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { loadJobs, systemTime } from '@millrace/runtime';
import type { Job } from 'millrace';
import { isolateItems } from '../isolate-items.ts';
import { quietLog, sampleChunk } from '../processor-samples.ts';
import { Slots } from '../slots.ts';
import { ChildProcesses } from './child-processes.ts';

const jobsPath = fileURLToPath(new URL('./poison-fixture.ts', import.meta.url));
const isolation = new ChildProcesses({ jobsPath, instance: 'test', log: quietLog, limit: 2, heap: 64 });
let jobs: ReadonlyMap<string, Job>;

beforeAll(async () => {
  jobs = await loadJobs(jobsPath);
});
afterAll(() => isolation.close());

/** What became of items that do these things: state, or state and message. */
async function outcome(name: string, does: readonly string[]): Promise<string[]> {
  const job = jobs.get(name) as Job;
  const items = does.map((what, n): [string, unknown] => [`k${n}`, { n, does: what }]);
  const results = await isolateItems({
    isolation,
    job,
    chunk: { ...sampleChunk(items.length), job: name, items },
    todo: items.map((_, index) => index),
    slots: new Slots(job.manifest.concurrency),
    time: systemTime,
    until: systemTime.now() + 120_000,
    signal: new AbortController().signal,
  });
  return Array.from(results.states, (state, index) => [state, results.blames.get(index)?.message].filter(Boolean).join(' '));
}

describe('items in processes of their own', () => {
  test('that exit, eat all memory or loop are condemned with the reason, and nobody else', async () => {
    expect(await outcome('single', ['', 'exit', 'wait', 'eat', 'loop', ''])).toEqual([
      'a',
      'r MR1016 Poisonous item: the process exited with code 3',
      'a',
      'r MR1016 Poisonous item: the process ran out of memory',
      'r MR1016 Poisonous item: the process did not return within 1000 ms',
      'a',
    ]);
  }, 120_000);

  test('that stood beside a killer come out as they would have here', async () => {
    expect(await outcome('many', ['wait', 'hang', 'reject', ''])).toEqual([
      'a',
      'x MR1014 Item timed out: no result after 1000 ms',
      'r MR1016 Poisonous item: the process exited with code 1',
      'a',
    ]);
  }, 120_000);

  test('end with the signal, without a result or a blame', async () => {
    const over = new AbortController();
    const job = jobs.get('many') as Job;
    const run = isolation.run({
      job,
      chunk: { ...sampleChunk(1), job: 'many', items: [['k0', { n: 0, does: 'hang' }]] },
      todo: [0],
      concurrency: 1,
      fresh: false,
      budget: 60_000,
      signal: over.signal,
    });
    over.abort();
    expect(await run).toEqual({ results: new Map(), death: undefined, underWay: [] });
  });
});

test('jobs that cannot be loaded are trouble with the surroundings, not with an item', async () => {
  const nowhere = new ChildProcesses({ jobsPath: `${jobsPath}.missing`, instance: 'test', log: quietLog, limit: 1, heap: 64 });
  const work = { job: jobs.get('many') as Job, chunk: sampleChunk(1), todo: [0], concurrency: 1, fresh: false, budget: 1 };
  await expect(nowhere.run({ ...work, signal: new AbortController().signal })).rejects.toThrow(/MR3016.*MR2002/);
}, 60_000);
