import { describe, expect, test } from '@jest/globals';
import { type ChunkSettled, type Counts, noCounts } from '@millrace/core';
import fc from 'fast-check';
import { addCounts, type ChunkRow, chunkKey, foldChunks } from './fold-chunks.ts';

const settled = (over: Partial<ChunkSettled>): ChunkSettled => ({
  runId: 'j@t',
  job: 'j',
  generation: 0,
  seq: 0,
  attempt: 1,
  size: 4,
  outcomes: '4a',
  failures: [],
  skips: {},
  settledAt: 1,
  timing: { queued: 0, process: 0, commit: 0 },
  ...over,
});
const failure = (position: number) => ({
  position,
  key: `k${position}`,
  fingerprint: 'f',
  title: 't',
  message: 'm',
  class: 'transient' as const,
});

/** What the store does with the result, over and over. */
function ledger(batches: readonly (readonly ChunkSettled[])[]): { rows: Map<string, ChunkRow>; counts: Counts } {
  const rows = new Map<string, ChunkRow>();
  const counts = noCounts();
  for (const batch of batches) {
    const folded = foldChunks(rows, batch);
    for (const { latest: _, ...row } of folded.chunks) rows.set(chunkKey(row), row);
    for (const gain of folded.gained) addCounts(counts, gain.counts, 1);
  }
  return { rows, counts };
}

const history = [
  settled({ seq: 0, outcomes: '4a' }),
  settled({ seq: 1, outcomes: '2a1f1s', failures: [failure(2)] }),
  settled({ seq: 1, attempt: 2, outcomes: '3a1s' }),
  settled({ seq: 2, outcomes: '1r3f', failures: [failure(0), failure(1), failure(2), failure(3)] }),
  settled({ seq: 2, attempt: 2, outcomes: '1r1a2x', failures: [failure(0), failure(2), failure(3)] }),
];

describe('foldChunks', () => {
  test('any order, any repetition and any batching of the same facts gives the same ledger', () => {
    const expected = ledger([history]);
    expect(expected.counts).toEqual({ ...noCounts(), applied: 8, skipped: 1, rejected: 1, failed: 2 });
    const shuffled = fc.shuffledSubarray([...history, ...history, ...history], { minLength: 15, maxLength: 15 });
    fc.assert(
      fc.property(shuffled, fc.integer({ min: 1, max: 15 }), (facts, cut) => {
        expect(ledger([facts.slice(0, cut), facts.slice(cut)])).toEqual(expected);
      }),
    );
  });

  test('a retry that did well recovers its items', () => {
    const { rows } = ledger([[history[1] as ChunkSettled]]);
    const folded = foldChunks(rows, [history[2] as ChunkSettled]);
    expect(folded.failures).toEqual([]);
    expect(folded.recovered.map((item) => item.position)).toContain(2);
  });

  test('a failure of an early attempt that comes late does not undo what became of the item', () => {
    const { rows } = ledger([[history[2] as ChunkSettled]]);
    expect(foldChunks(rows, [history[1] as ChunkSettled]).failures).toEqual([]);
  });

  test('an item with another attempt due is not final', () => {
    const folded = foldChunks(new Map(), [history[3] as ChunkSettled]);
    expect(folded.failures.map((f) => [f.position, f.final])).toEqual([
      [0, true],
      [1, false],
      [2, false],
      [3, false],
    ]);
  });
});
