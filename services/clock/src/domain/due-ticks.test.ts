import { describe, expect, test } from '@jest/globals';
import type { JobManifest } from '@millrace/core';
import { dueTicks, type Emitted } from './due-ticks.ts';

const at = (time: string) => Date.parse(`2026-03-01T${time}Z`);
const MINUTE = 60_000;

interface Sample {
  readonly cron?: string;
  readonly revision?: string;
  readonly mode?: 'latest' | 'all' | 'none';
  readonly window?: number;
}

function job(
  name: string,
  { cron = '*/5 * * * *', revision = 'r1', mode = 'latest', window = 24 * 60 * MINUTE }: Sample = {},
): JobManifest {
  return {
    name,
    revision,
    schedule: { cron: [cron], timeZone: 'UTC', overlap: 'skip', catchUp: { mode, window } },
  } as unknown as JobManifest;
}

const nominals = (due: { ticks: readonly { nominal: number }[] }) => due.ticks.map(({ nominal }) => nominal);
const nothing: ReadonlyMap<string, Emitted> = new Map();

describe('due ticks', () => {
  test('a job seen for the first time is due at its latest nominal instant only', () => {
    expect(dueTicks([job('a')], nothing, at('10:07:30')).ticks).toEqual([{ job: 'a', nominal: at('10:05:00'), revision: 'r1' }]);
    expect(nominals(dueTicks([job('a')], nothing, at('10:05:00')))).toEqual([at('10:05:00')]);
  });

  test('the first tick keeps to the catch-up window, and is none without catch-up', () => {
    expect(nominals(dueTicks([job('a', { window: 2 * MINUTE })], nothing, at('10:07:01')))).toEqual([]);
    expect(nominals(dueTicks([job('a', { window: 2 * MINUTE })], nothing, at('10:07:00')))).toEqual([at('10:05:00')]);
    const none = dueTicks([job('a', { mode: 'none' })], nothing, at('10:07:00'));
    expect(nominals(none)).toEqual([]);
    expect(nominals(dueTicks([job('a', { mode: 'none' })], none.lastEmitted, at('10:10:00')))).toEqual([at('10:10:00')]);
  });

  test('afterwards every nominal instant is emitted once, however late the call', () => {
    const first = dueTicks([job('a')], nothing, at('10:07:00'));
    expect(nominals(dueTicks([job('a')], first.lastEmitted, at('10:09:59')))).toEqual([]);
    const late = dueTicks([job('a')], first.lastEmitted, at('10:20:00'));
    expect(nominals(late)).toEqual([at('10:10:00'), at('10:15:00'), at('10:20:00')]);
    expect(nominals(dueTicks([job('a')], late.lastEmitted, at('10:20:00')))).toEqual([]);
  });

  test('a new revision starts anew with its latest nominal instant', () => {
    const first = dueTicks([job('a')], nothing, at('10:07:00'));
    const changed = dueTicks([job('a', { revision: 'r2', cron: '0 * * * *' })], first.lastEmitted, at('10:08:00'));
    expect(changed.ticks).toEqual([{ job: 'a', nominal: at('10:00:00'), revision: 'r2' }]);
  });

  test('more ticks than the limit follow in further calls, at once, in order and without a gap', () => {
    const jobs = [job('a', { cron: '* * * * *' }), job('b', { cron: '* * * * *' })];
    let emitted = dueTicks(jobs, nothing, at('10:00:00')).lastEmitted;
    const now = at('10:05:30');
    const ticks: string[] = [];
    let calls = 0;
    for (let wakeAt = now; wakeAt <= now; calls++) {
      const due = dueTicks(jobs, emitted, now, 3);
      expect(due.ticks.length).toBeLessThanOrEqual(3);
      for (const tick of due.ticks) ticks.push(`${tick.job} ${(tick.nominal - at('10:00:00')) / MINUTE}`);
      ({ wakeAt, lastEmitted: emitted } = due);
    }
    expect(ticks).toEqual(['a 1', 'a 2', 'a 3', 'a 4', 'a 5', 'b 1', 'b 2', 'b 3', 'b 4', 'b 5']);
    expect(calls).toBeLessThanOrEqual(5);
  });

  test('a wall clock that steps back emits again from there, under the same identity', () => {
    const ahead = dueTicks([job('a')], nothing, at('12:00:00'));
    const back = dueTicks([job('a')], ahead.lastEmitted, at('10:01:00'));
    expect(nominals(back)).toEqual([]);
    expect(back.wakeAt).toBe(at('10:02:00'));
    expect(nominals(dueTicks([job('a')], back.lastEmitted, at('10:05:00')))).toEqual([at('10:05:00')]);
  });

  test('what the limit held back is not lost when the wall clock then steps back a little', () => {
    const first = dueTicks([job('a')], nothing, at('10:00:00'));
    const held = dueTicks([job('a')], first.lastEmitted, at('10:15:30'), 1);
    expect(nominals(dueTicks([job('a')], held.lastEmitted, at('10:15:29')))).toEqual([at('10:10:00'), at('10:15:00')]);
  });

  test('wakes for the next tick, after a minute at the latest, also when nothing is ever due', () => {
    expect(dueTicks([job('a'), job('b', { cron: '8 * * * *' })], nothing, at('10:07:30')).wakeAt).toBe(at('10:08:00'));
    expect(dueTicks([job('a')], nothing, at('10:06:00')).wakeAt).toBe(at('10:07:00'));
    const never = dueTicks([job('a', { cron: '0 0 31 2 *' }), { ...job('b'), schedule: null }], nothing, at('10:06:00'));
    expect([never.wakeAt, never.ticks]).toEqual([at('10:07:00'), []]);
  });

  test('a job that is gone is forgotten', () => {
    const first = dueTicks([job('a')], nothing, at('10:07:00'));
    expect(dueTicks([], first.lastEmitted, at('10:08:00')).lastEmitted.size).toBe(0);
  });
});
