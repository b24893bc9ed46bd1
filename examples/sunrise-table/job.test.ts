import { describe, expect, test } from '@jest/globals';
import { runJob } from 'millrace/testing';
import { sunriseTable } from './job.ts';

const berlin = { id: 1, name: 'Berlin', country: 'DE', lat: 52.52, lon: 13.41 };
const quito = { id: 2, name: 'Quito', country: 'EC', lat: -0.22, lon: -78.51 };
const longyearbyen = { id: 3, name: 'Longyearbyen', country: 'SJ', lat: 78.22, lon: 15.65 };

describe('sunrise-table', () => {
  test('a city gets the sunrise, the sunset and the length of the day of the tick', async () => {
    const { effects, verdict } = await runJob(sunriseTable, { at: '2026-11-24T00:10:00Z', items: [berlin, quito] });
    expect(verdict).toBe('succeeded');
    expect(effects).toMatchObject([
      { city_id: 1, name: 'Berlin', country: 'DE', day: '2026-11-24' },
      { city_id: 2, day: '2026-11-24' },
    ]);
    // Almanac: Berlin 07:43 to 16:02 local time (UTC+1).
    expect(effects[0]?.sunrise).toMatch(/^2026-11-24T06:4[2-4]/);
    expect(effects[0]?.sunset).toMatch(/^2026-11-24T15:0[1-3]/);
    expect(effects[0]?.day_length_s).toBeGreaterThan(8.2 * 3600);
    expect(effects[0]?.day_length_s).toBeLessThan(8.4 * 3600);
    expect(effects[1]?.day_length_s).toBeGreaterThan(12 * 3600);
  });

  test.each([
    ['2026-06-21T00:10:00Z', 'polar day'],
    ['2026-12-21T00:10:00Z', 'polar night'],
  ])('at %s Longyearbyen is skipped for its %s', async (at, reason) => {
    const { counts, skips } = await runJob(sunriseTable, { at, items: [longyearbyen, berlin] });
    expect(skips).toEqual({ [reason]: 1 });
    expect(counts).toMatchObject({ applied: 1, skipped: 1 });
  });

  test('a crash after the commit changes nothing', async () => {
    const options = { at: '2026-11-24T00:10:00Z', items: [berlin, quito, longyearbyen] };
    expect(await runJob(sunriseTable, { ...options, crash: 'after-commit' })).toEqual(await runJob(sunriseTable, options));
  });
});
