import { describe, expect, test } from '@jest/globals';
import { checkSchedule, dueBetween, latestDue, nextDue } from './schedule.ts';
import { formatInstant } from './time.ts';

const schedule = (cron: string[], timeZone = 'UTC') =>
  ({ cron, timeZone, overlap: 'skip', catchUp: { mode: 'latest', window: 0 } }) as const;
const at = (text: string) => Date.parse(text);

describe('schedule', () => {
  test('is due whenever one of its expressions is, each instant once', () => {
    const due = dueBetween(schedule(['*/30 * * * *', '0 * * * *']), at('2026-11-24T00:00:00Z'), at('2026-11-24T02:00:00Z'), 100);
    expect(due.map(formatInstant)).toEqual([
      '2026-11-24T00:30:00Z',
      '2026-11-24T01:00:00Z',
      '2026-11-24T01:30:00Z',
      '2026-11-24T02:00:00Z',
    ]);
  });

  test('a fixed hour in the gap of a time change fires once, after it; in the fold once', () => {
    const berlin = schedule(['30 2 * * *'], 'Europe/Berlin');
    expect(dueBetween(berlin, at('2026-03-28T12:00:00Z'), at('2026-03-29T12:00:00Z'), 9)).toHaveLength(1);
    expect(dueBetween(berlin, at('2026-10-24T12:00:00Z'), at('2026-10-25T12:00:00Z'), 9)).toHaveLength(1);
  });

  test('the latest due instant includes the present one', () => {
    const hourly = schedule(['0 * * * *']);
    expect(latestDue(hourly, 0, at('2026-11-24T03:00:00Z'))).toBe(at('2026-11-24T03:00:00Z'));
    expect(latestDue(hourly, 0, at('2026-11-24T03:59:59Z'))).toBe(at('2026-11-24T03:00:00Z'));
    expect(latestDue(hourly, at('2026-11-24T03:00:00Z'), at('2026-11-24T03:59:59Z'))).toBeUndefined();
  });

  test('an expression that can never be due again has no next instant', () => {
    expect(nextDue(schedule(['0 0 30 2 *']), at('2026-11-24T00:00:00Z'))).toBeUndefined();
  });

  test.each([
    ['61 * * * *', 'UTC', 'MR1002'],
    ['* * *', 'UTC', 'MR1002'],
    ['* * * * * * *', 'UTC', 'MR1002'],
    ['* * * * *', 'Mars/Olympus', 'MR1003'],
  ])('refuses %s in %s with %s, naming the value and the job', (cron, zone, code) => {
    expect(() => checkSchedule('nightly', [cron], zone)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining('"nightly"') }),
    );
  });
});
