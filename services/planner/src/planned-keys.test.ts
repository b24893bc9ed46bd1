import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { PlannedKeys } from './planned-keys.ts';

const CHUNK = 3;

/** Chunks of three keys; those before `flushed` are in the store, the others in memory. */
function plan(flushed: (chunks: number) => number = (chunks) => Math.max(0, chunks - 2)) {
  const chunks: string[][] = [[]];
  let reads = 0;
  const keys = new PlannedKeys({
    stored: async (from, count) => {
      reads++;
      const end = Math.min(from + count, flushed(chunks.length - 1));
      return chunks.slice(from, end).map((of, i) => ({ seq: from + i, keys: of }));
    },
    inMemory: (seq) => (seq < flushed(chunks.length - 1) ? undefined : chunks[seq]),
    unfinished: () => chunks.length - 1,
    settled: async () => {},
  });
  return {
    keys,
    chunks,
    reads: () => reads,
    async take(key: string | number) {
      const sighting = await keys.sight(key, chunks.length - 1);
      if (sighting === 'new') chunks.at(-1)?.push(String(key));
      if (chunks.at(-1)?.length === CHUNK) chunks.push([]);
      return sighting;
    },
  };
}

test.each([
  ['numbers', [-5, 0, 1.5, 2, 10, 1e21, 3e22]],
  ['strings', ['', '01', '02', '1', 'B', 'a', 'ab', 'é']],
])('%s that only grow are new, and nothing is remembered or read for them', async (_, ascending) => {
  const { take, reads } = plan();
  for (const key of ascending) expect(await take(key)).toBe('new');
  expect(reads()).toBe(0);
});

test('whatever the order, each key is planned once and the rest are duplicates', async () => {
  const key = fc.oneof(fc.integer({ min: -3, max: 30 }), fc.stringMatching(/^[ab0-9]{1,2}$/));
  const sorted = fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 80 }).map((numbers) => numbers.sort((a, b) => a - b));
  const source = fc.tuple(fc.oneof(fc.constant([]), sorted), fc.array(key, { maxLength: 60 })).map(([first, then]) => [...first, ...then]);
  await fc.assert(
    fc.asyncProperty(source, fc.nat({ max: 4 }), async (items, lag) => {
      const { take, chunks } = plan((full) => Math.max(0, full - lag));
      const model = new Set<string>();
      for (const item of items) {
        expect(await take(item)).toBe(model.has(String(item)) ? 'duplicate' : 'new');
        model.add(String(item));
      }
      expect(chunks.flat()).toEqual([...model]);
    }),
    { numRuns: 300 },
  );
});

test('after a restart the first sighting of a stored key is no duplicate, unless it was yielded before the checkpoint', async () => {
  const { keys, chunks, take } = plan((full) => full);
  chunks.splice(0, 1, ['1', '2', '3'], ['4', '5', '6'], []);
  await keys.recall(2);
  const taken: unknown[] = [];
  for (const key of [3, 4, 4, 2, 5, 6, 7]) taken.push(await take(key));
  expect(taken).toEqual(['seen', 'seen', 'duplicate', 'duplicate', 'seen', 'seen', 'new']);
});
