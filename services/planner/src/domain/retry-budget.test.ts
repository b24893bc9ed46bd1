import { describe, expect, test } from '@jest/globals';
import { RETRIES, RetryBudgets } from './retry-budget.ts';

const chunk = (size: number, outcomes: string | null = null, job = 'j') => ({ job, size, outcomes });

describe('the budget of retries', () => {
  test('a storm is bounded by a fifth of the first attempts, counted in items that go again', () => {
    const budgets = new RetryBudgets();
    let [first, again] = [0, 0];
    for (let i = 0; i < 1_000; i++) {
      budgets.sentFirst([chunk(500)], 0);
      first += 500;
      if (budgets.exhausted(0).length > 0) continue;
      budgets.sentAgain([chunk(500, '500f')], 0);
      again += 500;
    }
    expect(again).toBeGreaterThan(first * 0.15);
    expect(again).toBeLessThanOrEqual(RETRIES.burst + first * 0.2 + 500);
  });

  test('a few failing items per chunk are far from any bound', () => {
    const budgets = new RetryBudgets();
    for (let i = 0; i < 10_000; i++) {
      budgets.sentFirst([chunk(500)], 0);
      budgets.sentAgain([chunk(500, '200a3f297a')], 0);
    }
    expect(budgets.exhausted(0)).toEqual([]);
  });

  test('each job has its own, and an exhausted one recovers with time', () => {
    const budgets = new RetryBudgets();
    budgets.sentAgain([chunk(500, '500f')], 0);
    for (let i = 0; i < 10; i++) budgets.sentAgain([chunk(500, '500f', 'storm')], 0);
    expect(budgets.exhausted(0)).toEqual(['storm']);
    expect(budgets.exhausted(1_000)).toEqual([]);
  });
});
