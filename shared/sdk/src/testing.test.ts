import { describe, expect, test } from '@jest/globals';
import { defineJob, PermanentError, postgres, TransientError } from './index.ts';
import { runJob } from './testing.ts';

interface Order {
  id: number;
  kind: 'good' | 'skip' | 'bad' | 'broken' | 'void';
}
const order = (id: number, kind: Order['kind'] = 'good'): Order => ({ id, kind });

function orders(items: Order[], written: unknown[] = [], size = 3) {
  return defineJob('orders', { batch: { size }, retry: { attempts: 3 }, tolerate: { count: 2 } })
    .items(() => items, { key: ({ id }) => id })
    .process(async ({ id, kind }, { skip, reject, attempt }) => {
      if (kind === 'skip') return skip('nothing to do');
      if (kind === 'bad') throw reject('no such order');
      if (kind === 'broken') throw new PermanentError('cannot');
      if (kind === 'void') return undefined as never;
      return { id, attempt };
    })
    .commit((effects, { effectIds }) => {
      if (effects.some(({ id }) => id === 666)) throw new Error('constraint violated');
      written.push(...effects.map((effect, i) => [effect.id, effectIds[i]]));
    });
}

describe('runJob', () => {
  test('every item gets exactly one outcome and the books balance', async () => {
    const run = await runJob(orders([order(1), order(2, 'skip'), order(3, 'bad'), order(4, 'broken'), order(5, 'void'), order(1)]));
    expect(run.planned).toBe(6);
    expect(run.counts).toMatchObject({ applied: 1, skipped: 1, rejected: 1, failed: 2, duplicate: 1 });
    expect(run.effects).toEqual([{ id: 1, attempt: 1 }]);
    expect(run.skips).toEqual({ 'nothing to do': 1 });
    expect(run.failures.map(({ key, class: blame, attempts }) => [key, blame, attempts])).toEqual([
      ['3', 'rejected', 1],
      ['4', 'permanent', 1],
      ['5', 'permanent', 1],
    ]);
    expect(run.failures[2]?.message).toMatch(/MR1008/);
    expect(run.verdict).toBe('failed');
  });

  test('a transient failure is tried again up to the limit of the job', async () => {
    const flaky = new TransientError('busy', { retryAfter: 60_000 });
    const run = await runJob(orders([order(1), order(2), order(3)]), { faults: { 1: [flaky], 2: flaky, 3: [flaky, flaky] } });
    expect(run.effects).toEqual([
      { id: 1, attempt: 2 },
      { id: 3, attempt: 3 },
    ]);
    expect(run.failures).toEqual([{ key: '2', class: 'transient', message: 'busy', attempts: 3 }]);
    expect(run.verdict).toBe('partial');
  });

  test('a batch that the sink refuses loses only the item that breaks it', async () => {
    const written: unknown[] = [];
    const run = await runJob(
      orders(
        [1, 2, 666, 4, 5].map((id) => order(id)),
        written,
        5,
      ),
    );
    expect(written.map((row) => (row as unknown[])[0])).toEqual([1, 2, 4, 5]);
    expect(run.failures).toMatchObject([{ key: '666', class: 'commit' }]);
    expect(run.counts).toMatchObject({ applied: 4, failed: 1 });
  });

  test.each(['before-commit', 'after-commit'] as const)('a crash %s gives the same outcome as a clean run', async (crash) => {
    const items = Array.from({ length: 10 }, (_, i) => order(i, i === 4 ? 'bad' : i === 7 ? 'skip' : 'good'));
    const [clean, crashed]: unknown[][] = [[], []];
    expect(await runJob(orders(items, crashed), { crash, faults: { 2: [new Error('once')] } })).toEqual(
      await runJob(orders(items, clean), { faults: { 2: [new Error('once')] } }),
    );
    expect(crashed).toEqual(clean);
  });

  test('an item that outlives its timeout is aborted', async () => {
    const job = defineJob('slow', { timeout: 5, retry: { attempts: 1 } })
      .items(() => [1], { key: (i) => i })
      .process((_, { signal }) => new Promise<number>((_, fail) => signal.addEventListener('abort', () => fail(signal.reason))))
      .commit(() => {});
    expect((await runJob(job)).failures).toMatchObject([{ class: 'timeout', message: expect.stringMatching(/MR1014/) }]);
  });

  test('a postgres sink runs only in a given transaction', async () => {
    const seen: unknown[] = [];
    const job = defineJob('db')
      .items(
        async function* ({ query, tick, checkpoint }) {
          for (const { id } of (await query<{ id: number }>('select')).rows) yield { id, day: tick.at.toISOString().slice(0, 10) };
          yield checkpoint(1);
        },
        { key: (i) => i.id },
      )
      .process((i) => i)
      .commit(postgres((effects, tx) => tx.query('insert', [effects.length])));
    const query = async () => ({ rows: [{ id: 1 }, { id: 2 }] });
    const record = async (...call: unknown[]) => {
      seen.push(call);
      return { rows: [], rowCount: 0 };
    };
    const tx = { query: record, copy: async () => {} };
    expect((await runJob(job, { query, at: '2026-11-24T00:10:00Z' })).effects).toEqual([
      { id: 1, day: '2026-11-24' },
      { id: 2, day: '2026-11-24' },
    ]);
    expect(seen).toEqual([]);
    await runJob(job, { query, tx });
    expect(seen).toEqual([['insert', [2]]]);
    await expect(runJob(job)).rejects.toThrow(/give `query`/);
  });

  test('a bad key or item ends the plan with its code', async () => {
    const keyed = (key: unknown) =>
      defineJob('k')
        .items(() => [{ key }], { key: (i) => i.key as string })
        .process(() => 1)
        .commit(() => {});
    await expect(runJob(keyed(''))).rejects.toMatchObject({ code: 'MR1005' });
    await expect(runJob(keyed('k'), { items: [{ key: 'k', at: new Date(0) } as never] })).rejects.toMatchObject({ code: 'MR1006' });
  });

  test('no items is what the job says it is', async () => {
    const empty = (onEmpty: 'ok' | 'fail') =>
      defineJob('e', { onEmpty })
        .items((): number[] => [], { key: (i) => i })
        .process((i) => i)
        .commit(() => {});
    expect((await runJob(empty('ok'))).verdict).toBe('succeeded');
    expect((await runJob(empty('fail'))).verdict).toBe('failed');
  });
});
