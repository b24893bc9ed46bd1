/** What must become of each synthetic item, and with which letter the ledger must say so. The job obeys it, the check demands it. */
export type Fate = 'applied' | 'skipped' | 'rejected' | 'flaky' | 'broken' | 'refused' | 'killer';

export const LETTER: Readonly<Record<Fate, string>> = {
  applied: 'a',
  /** Fails at its first attempt in a way that may pass. */
  flaky: 'a',
  skipped: 's',
  rejected: 'r',
  /** Throws a permanent error. */
  broken: 'x',
  /** Its effect violates a constraint of the table. */
  refused: 'x',
  /** Ends, fills or blocks the process that works on it. */
  killer: 'r',
};

export interface Load {
  /** Items of the run: 0 to `items` - 1. */
  readonly items: number;
  /** Each so many-th item is a killer; 0: none. */
  readonly killerEvery: number;
}

/** About 1 % rejected, 2 % skipped, in each eighth chunk 5 % flaky, and a few broken and refused ones: the same for every run. */
export function fateOf(item: number, { killerEvery }: Pick<Load, 'killerEvery'>): Fate {
  if (killerEvery > 0 && item % killerEvery === killerEvery >> 1) return 'killer';
  const spread = hash(item) % 10_000;
  if (spread < 100) return 'rejected';
  if (spread < 300) return 'skipped';
  if (spread < 310) return 'broken';
  if (spread < 312) return 'refused';
  if (spread < 800 && (item >>> 9) % 8 === 0) return 'flaky';
  return 'applied';
}

function hash(value: number): number {
  let h = Math.imul(value ^ (value >>> 16), 0x45d9f3b);
  h = Math.imul(h ^ (h >>> 16), 0x45d9f3b);
  return (h ^ (h >>> 16)) >>> 0;
}
