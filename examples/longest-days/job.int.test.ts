import { PGlite } from '@electric-sql/pglite';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { runJob } from 'millrace/testing';
import { sunriseTable } from '../sunrise-table/job.ts';
import { longestDays } from './job.ts';

const at = '2026-11-24T00:10:00Z';
let database: PGlite;
const query = async (sql: string, params: readonly unknown[] = []) => {
  const { rows, affectedRows } = await database.query(sql, [...params]);
  return { rows: rows as never[], rowCount: affectedRows ?? 0 };
};
const tx = { query, copy: () => Promise.reject(new Error('not used')) };

beforeAll(async () => {
  database = await PGlite.create();
  for (const { sink } of [sunriseTable, longestDays]) if (sink.kind === 'postgres') await database.exec(sink.setup ?? '');
});
afterAll(() => database.close());

describe('longest-days', () => {
  test('ranks the ten longest days of each country, however often it runs', async () => {
    const cities = Array.from({ length: 30 }, (_, i) => ({
      id: i,
      name: `city ${i}`,
      country: i % 2 ? 'NO' : 'SE',
      lat: 40 + i / 2,
      lon: 10,
    }));
    await runJob(sunriseTable, { at, items: cities, tx });
    await runJob(longestDays, { at, query, tx });
    const run = await runJob(longestDays, { at, query, tx });
    expect(run.counts.applied).toBe(2);
    const { rows } = await query('select country, rank, city_id from longest_days order by country, rank');
    // In November the day is longer in the south: the first cities.
    const expected = (country: string, first: number) =>
      Array.from({ length: 10 }, (_, i) => ({ country, rank: i + 1, city_id: first + 2 * i }));
    expect(rows).toEqual([...expected('NO', 1), ...expected('SE', 0)]);
  });

  test('a day without a table gives no items', async () => {
    expect((await runJob(longestDays, { at: '2020-01-01T00:00:00Z', query })).planned).toBe(0);
  });
});
