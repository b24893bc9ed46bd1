import { expect, test } from '@jest/globals';
import { type ChunkSettled, type Counts, countStates, encodeStates, type ItemState, mergeStates, noCounts, OUTCOMES } from '@millrace/core';
import fc from 'fast-check';
import { addCounts, type ChunkRow, chunkKey, foldChunks } from './fold-chunks.ts';

const SIZE = 6;
/** What a later attempt may make of an item: good and final states stay, open ones may become anything. */
const item = fc.constantFrom<ItemState>('p', 'f', 'x', 'r', 's', 'd', 'a');
const history = fc.array(fc.array(item, { minLength: SIZE, maxLength: SIZE }), { minLength: 1, maxLength: 3 });

function factsOf(attempts: readonly (readonly ItemState[])[], seq: number): ChunkSettled[] {
  return attempts.map((states, i) => ({
    runId: 'job@t',
    job: 'job',
    generation: 0,
    seq,
    attempt: i + 1,
    size: SIZE,
    outcomes: encodeStates(states),
    failures: [],
    skips: {},
    settledAt: i,
    timing: { queued: 0, process: 0, commit: 0 },
  }));
}

/** The books after facts that come in batches. */
function fold(batches: readonly (readonly ChunkSettled[])[]): { rows: Map<string, ChunkRow>; counts: Counts } {
  const rows = new Map<string, ChunkRow>();
  const counts = noCounts();
  for (const batch of batches) {
    const folded = foldChunks(rows, batch);
    for (const { latest: _, ...row } of folded.chunks) rows.set(chunkKey(row), row);
    for (const gained of folded.gained) addCounts(counts, gained.counts, 1);
  }
  return { rows, counts };
}

const split = <T>(list: readonly T[], sizes: readonly number[]): T[][] => {
  const parts: T[][] = [];
  let at = 0;
  for (const size of sizes) parts.push(list.slice(at, (at += size)));
  return [...parts, list.slice(at)];
};

test('facts that are shuffled, doubled, late and batched in any way give the same books, and every row counts once', () => {
  const arrivals = fc.array(history, { minLength: 1, maxLength: 4 }).chain((chunks) => {
    const facts = chunks.flatMap((attempts, seq) => factsOf(attempts, seq));
    return fc.record({
      facts: fc.constant(facts),
      doubled: fc.subarray(facts),
      sizes: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 6 }),
      order: fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
    });
  });
  fc.assert(
    fc.property(arrivals, ({ facts, doubled, sizes, order }) => {
      const shuffled = [...facts, ...doubled].map((fact) => ({ fact, at: order.next().value as number })).sort((a, b) => a.at - b.at);
      const expected = fold([facts]);
      const seen = fold(
        split(
          shuffled.map(({ fact }) => fact),
          sizes,
        ),
      );
      const outcomes = ({ rows }: typeof seen) => [...rows].map(([key, { outcomes, attempt }]) => [key, outcomes, attempt]).sort();
      expect(outcomes(seen)).toEqual(outcomes(expected));
      const recounted = noCounts();
      for (const row of seen.rows.values()) addCounts(recounted, countStates(row.outcomes).counts, 1);
      expect(seen.counts).toEqual(recounted);
      expect(seen.counts).toEqual(expected.counts);
      expect(OUTCOMES.every((outcome) => seen.counts[outcome] >= 0)).toBe(true);
    }),
    { numRuns: 400 },
  );
});

test('merging item states is commutative, associative and idempotent', () => {
  const text = fc
    .array(fc.constantFrom<ItemState>('-', 'p', 'f', 'c', 'e', 'i', 'x', 'r', 's', 'd', 'a'), { minLength: SIZE, maxLength: SIZE })
    .map(encodeStates);
  fc.assert(
    fc.property(text, text, text, (a, b, c) => {
      const merge = (left: string, right: string) => mergeStates(left, right, SIZE);
      expect(merge(a, b)).toBe(merge(b, a));
      expect(merge(a, merge(b, c))).toBe(merge(merge(a, b), c));
      expect(merge(a, a)).toBe(a);
      expect(merge(merge(a, b), b)).toBe(merge(a, b));
    }),
    { numRuns: 1_000 },
  );
});
