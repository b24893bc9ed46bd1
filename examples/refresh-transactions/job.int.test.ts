import { PGlite } from '@electric-sql/pglite';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { runJob } from 'millrace/testing';
import { refreshTransactions } from './job.ts';
import { startProvider } from './provider.ts';

const transactions = Array.from({ length: 300 }, (_, i) => ({ id: i + 1 }));
let close: () => Promise<void>;

beforeAll(async () => {
  const provider = await startProvider();
  process.env.PROVIDER_URL = provider.url;
  close = provider.close;
});
afterAll(() => close());

describe('refresh-transactions', () => {
  test('limits and outages are overcome, unknown transactions are rejected at once', async () => {
    const run = await runJob(refreshTransactions, { items: transactions, at: '2026-11-24T00:00:00Z' });
    expect(run.counts).toMatchObject({ applied: 298, rejected: 2, failed: 0 });
    expect(run.failures).toEqual(
      [7, 207].map((id) => ({ key: String(id), class: 'rejected', message: 'unknown to the provider', attempts: 1 })),
    );
    expect(run.effects).toContainEqual({ id: 17, status: 'declined', tick: '2026-11-24T00:00:00.000Z' });
    expect(run.effects).toContainEqual({ id: 3, status: 'settled', tick: '2026-11-24T00:00:00.000Z' });
    expect(run.verdict).toBe('partial');
  });

  test('a provider that stays away fails the item after five tries', async () => {
    const run = await runJob(refreshTransactions, { items: [{ id: 1 }, { id: 2 }], faults: { 1: new Error('connect ECONNREFUSED') } });
    expect(run.failures).toMatchObject([{ key: '1', class: 'transient', attempts: 5 }]);
    expect(run.verdict).toBe('failed');
  });

  test('the table is refreshed in place: what was settled is not asked again', async () => {
    const database = await PGlite.create();
    const query = async (sql: string, params: readonly unknown[] = []) => {
      const { rows, affectedRows } = await database.query(sql, [...params]);
      return { rows: rows as never[], rowCount: affectedRows ?? 0 };
    };
    const tx = { query, copy: () => Promise.reject(new Error('not used')) };
    const setup = refreshTransactions.sink.kind === 'postgres' ? (refreshTransactions.sink.setup ?? '') : '';
    await database.exec(setup);
    const first = await runJob(refreshTransactions, { query, tx });
    expect(first).toMatchObject({ planned: 2000, verdict: 'partial', counts: { applied: 1990, rejected: 10 } });
    await database.exec(setup);
    const second = await runJob(refreshTransactions, { query, tx });
    expect(second).toMatchObject({ planned: 10, verdict: 'failed', counts: { applied: 0, rejected: 10 } });
    await database.close();
  });

  test('the source reads page by page, and goes on from its cursor', async () => {
    const asked: unknown[] = [];
    const query = async (_: string, [last, limit]: readonly unknown[] = []) => {
      asked.push(last);
      const rows = Array.from({ length: Math.min(Number(limit), 700 - Number(last)) }, (_, i) => ({ id: Number(last) + i + 1 }));
      return { rows: rows as never[] };
    };
    const yielded: unknown[] = [];
    const checkpoint = (cursor: unknown) => ({ cursor }) as never;
    const source = refreshTransactions.items({
      query,
      checkpoint,
      cursor: 100,
      params: {},
      tick: { id: 't', at: new Date(0) },
      signal: new AbortController().signal,
    });
    for await (const item of source as AsyncIterable<unknown>) yielded.push(item);
    expect(asked).toEqual([100, 600]);
    expect(yielded).toHaveLength(601);
    expect(yielded[500]).toEqual({ cursor: 600 });
  });
});
