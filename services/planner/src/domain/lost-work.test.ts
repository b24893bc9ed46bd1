import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { affordable, earn, openBudget, spend } from './budget.ts';
import { patienceWith, REEMITS } from './lost-work.ts';

const manifest = { concurrency: 64, timeout: 1_000 };

describe('patience with chunks that give no answer', () => {
  test('as long as messages are ready nothing is suspected, however old: a slow consumer with a backlog of six hours is left in peace', () => {
    expect(patienceWith({ ready: 1, consumers: 1 }, manifest, 500)).toBeGreaterThan(6 * 3_600_000);
    expect(patienceWith({ ready: 1, consumers: 0 }, manifest, 500)).toBeGreaterThan(6 * 3_600_000);
  });

  test('an empty queue without consumers holds nothing', () => {
    expect(patienceWith({ ready: 0, consumers: 0 }, manifest, 500)).toBe(30_000);
  });

  test('consumers get the time that they could need for all they hold, up to what a broker allows', () => {
    expect(patienceWith({ ready: 0, consumers: 2 }, manifest, 500)).toBe(2 * 63 * 1_000);
    expect(patienceWith({ ready: 0, consumers: 2 }, { concurrency: 64, timeout: 5 }, 500)).toBe(30_000);
    expect(patienceWith({ ready: 0, consumers: 2 }, { concurrency: 1, timeout: 30_000 }, 500)).toBe(31 * 60_000);
    expect(patienceWith({ ready: 0, consumers: 2 }, { concurrency: 64, timeout: 0 }, 500)).toBe(31 * 60_000);
  });
});

describe('the budget of what is sent again', () => {
  test('over any stretch it is a tenth of what was sent, one a second, and the burst', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(1_000), fc.nat(5_000), fc.nat(500)), { maxLength: 50 }), (steps) => {
        let budget = openBudget(REEMITS, 0);
        let [now, sent, again] = [0, 0, 0];
        for (const [work, pause, wanted] of steps) {
          now += pause;
          sent += work;
          budget = earn(REEMITS, budget, work, now);
          const granted = Math.min(wanted, affordable(budget));
          budget = spend(budget, granted);
          again += granted;
          expect(again).toBeLessThanOrEqual(REEMITS.burst + sent / 10 + now / 1_000 + 1e-6);
        }
      }),
    );
  });

  test('a standstill ends by itself, and a clock that steps back gives nothing away', () => {
    let budget = spend(openBudget(REEMITS, 10_000), 100);
    expect(affordable(budget)).toBe(0);
    budget = earn(REEMITS, budget, 0, 5_000);
    expect(affordable(budget)).toBe(0);
    budget = earn(REEMITS, budget, 0, 13_000);
    expect(affordable(budget)).toBe(3);
  });

  test('a debt is earned back before anything is affordable again', () => {
    const budget = spend(openBudget(REEMITS, 0), 150);
    expect(affordable(earn(REEMITS, budget, 400, 0))).toBe(0);
    expect(affordable(earn(REEMITS, budget, 600, 0))).toBe(10);
  });
});
