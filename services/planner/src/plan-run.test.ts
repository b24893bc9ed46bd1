import { expect, test } from '@jest/globals';
import { DispatchSpans } from './dispatch-spans.ts';
import { ChunkBuffers } from './domain/chunk-buffers.ts';
import type { BuiltChunk } from './domain/chunk-builder.ts';
import { ROOM_PAUSE, SETTLE_EVERY } from './domain/settle-pace.ts';
import { type PlanContext, planRun } from './plan-run.ts';
import type { PlanningRun, PlanStore } from './plan-store.ts';
import { jobOf } from './planner-fixture.ts';

const run: PlanningRun = {
  runId: 'j@t',
  job: 'j',
  tick: 't',
  nominal: null,
  cause: 'trigger',
  params: {},
  limit: undefined,
  openedAt: 0,
  trace: {},
  epoch: 1,
  cursor: undefined,
  nextSeq: 0,
  items: 0,
  duplicates: 0,
  failures: 0,
  manifest: jobOf('j', () => []).manifest,
};

/** Room for every chunk of a group. */
const ALL = Number.POSITIVE_INFINITY;

/** Plans `chunks` chunks of one item, each of which takes the source `each` ms; `room` is asked for each group of chunks. */
async function planned(chunks: number, each: number, room: (group: number) => number, signal = new AbortController().signal) {
  let now = 0;
  let waited = 0;
  let yielded = 0;
  const windows: number[] = [];
  const sent: number[] = [];
  let woken = 0;
  const store = {
    async appendChunks(_: PlanningRun, group: readonly BuiltChunk[], __: unknown, window: number) {
      windows.push(window);
      return window === 0 ? 0 : Math.min(group.length, room(windows.length - 1));
    },
    seal: async () => true,
    postponePlanning: async () => undefined,
  } as unknown as PlanStore;
  const job = jobOf('j', function* () {
    for (let id = 0; id < chunks; id++) {
      now += each;
      yielded++;
      yield { id };
    }
  });
  const context: PlanContext = {
    store,
    events: { publish: async () => undefined },
    buffers: new ChunkBuffers(),
    work: { publish: async (envelopes) => void sent.push(envelopes.length) },
    time: {
      now: () => now,
      async sleep(duration, signal) {
        // Only what is waited for moves the clock: the pause before a run is told of does not.
        if (duration < 100 || signal?.aborted) return new Promise((resolve) => signal?.addEventListener('abort', () => resolve()));
        now += duration;
        waited += duration;
      },
    },
    query: async () => ({ rows: [] }),
    window: 1_000,
    spans: new DispatchSpans('memory'),
    confirmed: () => undefined,
    chunkItems: () => 1,
    largestItem: 1_000_000,
    wakeDispatcher: () => woken++,
  };
  expect(await planRun(run, job, context, signal)).toBe(signal.aborted ? 'postponed' : 'sealed');
  // What goes on behind the back of whoever gave up.
  if (signal.aborted) await new Promise((resolve) => setTimeout(resolve, 50));
  return { windows, sent: sent.reduce((sum, count) => sum + count, 0), woken, waited, yielded };
}

test('as long as there is room, chunks go straight from memory, and nobody waits', async () => {
  expect(await planned(100, 10, () => ALL)).toMatchObject({ sent: 100, woken: 0, waited: 0 });
});

test('a planner that is faster than the processors waits for room, and goes on from memory', async () => {
  const { windows, sent, woken, waited } = await planned(400, 10, (group) => (group === 20 ? 11 : ALL));
  expect(windows).not.toContain(0);
  expect(ROOM_PAUSE).toBeGreaterThan(SETTLE_EVERY);
  expect({ sent, woken, waited }).toEqual({ sent: 395, woken: 1, waited: ROOM_PAUSE });
});

test('slow processors do not hold up the plan: it waits half as long as it takes, and the rest is left to the dispatcher', async () => {
  const { windows, waited } = await planned(2_000, 1, (group) => (group < 50 ? ALL : 0));
  expect(waited).toBeGreaterThan(0);
  expect(waited).toBeLessThanOrEqual(1_000);
  expect(windows.at(-1)).toBe(0);
});

test('a short plan never waits', async () => {
  expect(await planned(100, 1, () => 0)).toMatchObject({ sent: 0, waited: 0 });
});

test('a plan that was given up asks its source for no more than the chunks that were under way', async () => {
  const given = new AbortController();
  const { yielded } = await planned(
    2_000,
    1,
    (group) => {
      if (group === 5) given.abort();
      return ALL;
    },
    given.signal,
  );
  expect(yielded).toBeGreaterThan(31);
  expect(yielded).toBeLessThan(100);
});
