import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { ItemResult } from './domain/results.ts';
import { isolateItems } from './isolate-items.ts';
import type { IsolatedWork, Isolation } from './isolation.ts';
import { sampleChunk, sampleJob } from './processor-samples.ts';
import { Slots } from './slots.ts';

const all = (n: number) => Array.from({ length: n }, (_, i) => i);
const time = { now: () => 0, sleep: async () => undefined };

/** Processes that end as the items make them; `leaks` kill the process at whichever item comes next. */
class Imagined implements Isolation {
  readonly works: IsolatedWork[] = [];
  deaths = 0;
  readonly #killers: ReadonlySet<number>;
  readonly #leaks: ReadonlySet<number>;
  #leaking = false;

  constructor(killers: readonly number[], leaks: readonly number[] = []) {
    this.#killers = new Set(killers);
    this.#leaks = new Set(leaks);
  }

  async run(work: IsolatedWork) {
    this.works.push(work);
    if (work.fresh) this.#leaking = false;
    const results = new Map<number, ItemResult>();
    for (let at = 0; at < work.todo.length; at += work.concurrency) {
      const wave = work.todo.slice(at, at + work.concurrency);
      if (this.#leaking || wave.some((index) => this.#killers.has(index))) {
        this.deaths++;
        this.#leaking = false;
        return { results, death: 'the process exited with code 3', underWay: wave };
      }
      for (const index of wave) results.set(index, { state: 'a', effect: index });
      this.#leaking = wave.some((index) => this.#leaks.has(index));
    }
    return { results, death: undefined, underWay: [] };
  }

  async close() {}
}

async function isolate(isolation: Isolation, size: number, concurrency: number, over: object = {}) {
  const sample = sampleJob({ process: (item) => item, send: () => undefined });
  const job = { ...sample, manifest: { ...sample.manifest, concurrency } };
  const { signal } = new AbortController();
  return isolateItems({
    isolation,
    job,
    chunk: sampleChunk(size),
    todo: all(size),
    slots: new Slots(concurrency),
    time,
    until: 1,
    signal,
    ...over,
  });
}

describe('the search for poisonous items', () => {
  test('finds exactly the killers, whoever stood beside them, within a few deaths for each', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.nat(39)),
        async (size, concurrency, wanted) => {
          const killers = [...new Set(wanted.filter((index) => index < size))];
          const isolation = new Imagined(killers);
          const results = await isolate(isolation, size, concurrency);
          expect([...results.states]).toEqual(all(size).map((index) => (killers.includes(index) ? 'r' : 'a')));
          expect(isolation.deaths).toBeLessThanOrEqual((concurrency === 1 ? 2 : 3) * killers.length);
          for (const index of killers)
            expect(results.blames.get(index)).toMatchObject({
              class: 'poisoned',
              message: 'MR1016 Poisonous item: the process exited with code 3',
            });
        },
      ),
    );
  });

  test('does not condemn the victims of what another item has left behind', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.nat(29)),
        async (size, concurrency, leaks) => {
          const results = await isolate(new Imagined([], leaks), size, concurrency);
          expect(results.states).toEqual(all(size).map(() => 'a'));
        },
      ),
    );
  });

  test('a process that dies with nothing under way makes everything without a result suspect', async () => {
    let first = true;
    const isolation: Isolation = {
      run: async ({ todo }) => {
        const died = first;
        first = false;
        if (died) return { results: new Map([[0, { state: 's', reason: 'x' }]]), death: 'gone', underWay: [] };
        expect(todo).toHaveLength(1);
        return { results: new Map(todo.map((index) => [index, { state: 'a' as const, effect: index }])), death: undefined, underWay: [] };
      },
      close: async () => undefined,
    };
    expect((await isolate(isolation, 3, 2)).states).toEqual(['s', 'a', 'a']);
  });

  test('ends with its time: what is not settled by then has no result and no blame', async () => {
    let now = 0;
    const isolation = new Imagined([0, 1]);
    const ticking = { now: () => now++ / 3, sleep: async () => undefined };
    const results = await isolate(isolation, 2, 1, { time: ticking, until: 1 });
    expect(results.states.filter((state) => state !== undefined).length).toBeLessThan(2);
  });

  test('takes as many slots as it uses, and gives them back', async () => {
    const slots = new Slots(3);
    slots.take(() => undefined);
    const running = isolate(new Imagined([1]), 5, 3, { slots });
    await new Promise<void>((resolve) => setImmediate(resolve));
    expect(slots.take(() => undefined)).toBe(false);
    slots.give();
    await running;
    expect([1, 2, 3].map(() => slots.take(() => undefined))).toEqual([true, true, true]);
  });
});
