import { describe, expect, test } from '@jest/globals';
import type { Schedule } from '@millrace/core';
import { decideTicks } from './decide-ticks.ts';

const MINUTE = 60_000;
const at = Date.UTC(2026, 10, 24, 10, 0, 0);
const schedule = (mode: 'latest' | 'all' | 'none', window = 60 * MINUTE): Schedule => ({
  cron: ['* * * * *'],
  timeZone: 'UTC',
  overlap: 'skip',
  catchUp: { mode, window },
});

describe('decideTicks', () => {
  test('runs the one tick that is due', () => {
    expect(decideTicks(schedule('latest'), at - MINUTE, at, at + 5)).toEqual({ run: [at], missed: undefined, lastNominal: at });
  });

  test('after a downtime, latest runs the newest tick and records the others as one missed stretch', () => {
    expect(decideTicks(schedule('latest'), at - 10 * MINUTE, at, at)).toEqual({
      run: [at],
      missed: { nominal: at - 9 * MINUTE, through: at - MINUTE, ticks: 9 },
      lastNominal: at,
    });
  });

  test('all runs every tick inside the window and misses the older ones', () => {
    const decision = decideTicks(schedule('all', 3 * MINUTE), at - 10 * MINUTE, at, at);
    expect(decision.run).toEqual([at - 3 * MINUTE, at - 2 * MINUTE, at - MINUTE, at]);
    expect(decision.missed?.ticks).toBe(6);
  });

  test('none runs only what is on time', () => {
    expect(decideTicks(schedule('none'), at - 10 * MINUTE, at, at + 30_000).run).toEqual([at]);
    expect(decideTicks(schedule('none'), at - 10 * MINUTE, at, at + 90_000).run).toEqual([]);
  });

  test('nothing due changes nothing', () => {
    expect(decideTicks(schedule('all'), at, at + 1_000, at + 1_000)).toEqual({ run: [], missed: undefined, lastNominal: at });
  });

  test('a year of missed ticks is decided in bounded steps and runs only the newest', () => {
    let last = at - 30 * 24 * 60 * MINUTE;
    const run: number[] = [];
    let ticks = 0;
    for (let step = 0; step < 10; step++) {
      const decision = decideTicks(schedule('latest'), last, at, at);
      run.push(...decision.run);
      ticks += decision.run.length + (decision.missed?.ticks ?? 0);
      last = decision.lastNominal;
    }
    expect(run).toEqual([at]);
    expect(ticks).toBe(30 * 24 * 60);
  });
});
