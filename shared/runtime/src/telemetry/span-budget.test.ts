import { expect, test } from '@jest/globals';
import { SpanBudget } from './span-budget.ts';

/** A run of `n` chunks: how many spans are kept, when each has the duration that `took` says. */
function kept(n: number, took: (i: number) => number): number {
  const budget = new SpanBudget({ first: 8, failing: 32 });
  let count = 0;
  for (let i = 0; i < n; i++) {
    const first = budget.isFirst('run');
    if (budget.isSlowest('run', took(i)) || first) count++;
  }
  return count;
}

test('a run keeps a handful of spans, however many chunks it has', () => {
  expect(kept(100_000, () => 20)).toBe(8);
  expect(kept(100_000, (i) => 5 + ((i * 7919) % 1_000))).toBeLessThan(30);
  // Ever slower: each must be a fifth slower than all before.
  expect(kept(100_000, (i) => i + 1)).toBeLessThan(80);
});

test('failing spans are kept up to their bound, for each run', () => {
  const budget = new SpanBudget({ first: 0, failing: 3 });
  const answers = (run: string) => Array.from({ length: 5 }, () => budget.isFailing(run));
  expect(answers('a')).toEqual([true, true, true, false, false]);
  expect(answers('b')).toEqual([true, true, true, false, false]);
});

test('a run whose chunks come rarely does not keep each of them as its last', () => {
  const budget = new SpanBudget({ first: 0, failing: 0 });
  const every = 60_000;
  let lasts = 0;
  for (let chunk = 0; chunk < 10_000; chunk++) {
    if (budget.lastAfter('run') >= every) continue;
    budget.keptAsLast('run');
    lasts++;
  }
  expect(lasts).toBeLessThan(10);
});

test('it remembers a bounded number of runs, the busy ones among them', () => {
  const budget = new SpanBudget({ first: 1, failing: 0 });
  expect(budget.isFirst('busy')).toBe(true);
  for (let i = 0; i < 10_000; i++) {
    budget.isFirst(`run ${i}`);
    expect(budget.isFirst('busy')).toBe(false);
  }
});
