import { expect, test } from '@jest/globals';
import { type Fate, fateOf } from './items.ts';

test('every fate is met in a small run, and the shares are those that are written', () => {
  const counts: Partial<Record<Fate, number>> = {};
  for (let item = 0; item < 100_000; item++) {
    const fate = fateOf(item, { killerEvery: 10_000 });
    counts[fate] = (counts[fate] ?? 0) + 1;
  }
  expect(counts.killer).toBe(10);
  const shares = { rejected: 1_000, skipped: 2_000, broken: 100, refused: 20, flaky: 600 };
  for (const [fate, share] of Object.entries(shares)) {
    expect(counts[fate as Fate]).toBeGreaterThan(share * 0.7);
    expect(counts[fate as Fate]).toBeLessThan(share * 1.3);
  }
});
