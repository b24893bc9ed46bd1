import { describe, expect, test } from '@jest/globals';
import { type ChunkSettled, encodeStates, type ItemState, noCounts, type RunOpened } from '@millrace/core';
import { Random } from '../../../tools/simulation/random.ts';
import type { FactBatch, LedgerStore } from './ledger-store.ts';

type Opened = FactBatch['opened'][number];
type Planned = FactBatch['planned'][number];
type Fact = { readonly kind: keyof FactBatch; readonly data: Opened | Planned | FactBatch['planFailed'][number] | ChunkSettled };

const SIZE = 3;
let jobs = 0;
const newJob = () => `job${process.pid}-${++jobs}`;

function opened(runId: string, job: string, generation = 0): Opened {
  const cause: RunOpened['cause'] = generation > 0 ? 'redrive' : 'trigger';
  const manifest = { tolerate: { count: 1, percent: 0 }, onEmpty: 'ok' as const };
  return { runId, job, generation, tick: 'manual:k', nominal: null, cause, openedAt: 1_000, manifest, params: {}, trace: {} };
}

function planned(runId: string, job: string, chunks: number, generation = 0, more: Partial<Planned> = {}): Planned {
  return { runId, job, generation, chunks, items: chunks * SIZE, duplicates: 0, plannedAt: 2_000, replaced: noCounts(), ...more };
}

function settled(runId: string, job: string, seq: number, attempt: number, states: readonly ItemState[], generation = 0): ChunkSettled {
  const failures = states.flatMap((state, position): ChunkSettled['failures'] =>
    'frx'.includes(state) ? [{ position, key: `k${position}`, fingerprint: 'f', title: 't', message: 'm', class: 'transient' }] : [],
  );
  const fact = { runId, job, generation, seq, attempt, size: states.length, outcomes: encodeStates(states), failures, skips: {} };
  return { ...fact, settledAt: 3_000 + attempt, timing: { queued: 0, process: 0, commit: 0 } };
}

function batchOf(facts: readonly Fact[]): FactBatch {
  const of = <Data>(kind: keyof FactBatch) => facts.filter((fact) => fact.kind === kind).map(({ data }) => data as Data);
  return { opened: of('opened'), planned: of('planned'), planFailed: of('planFailed'), settled: of('settled') };
}

/** The same facts must give the same books on every adapter. `model` is the ledger that all others are compared with. */
export function ledgerStoreContract(name: string, open: () => LedgerStore, model: () => LedgerStore, sequences: number): void {
  describe(`${name} as a LedgerStore`, () => {
    const closed = async (store: LedgerStore, job: string) =>
      (await store.outbox(1_000)).map(({ data }) => data).filter((data) => data.job === job);

    test('whichever fact comes last closes the run, once', async () => {
      const facts = (runId: string, job: string): Fact[] => [
        { kind: 'opened', data: opened(runId, job) },
        { kind: 'planned', data: planned(runId, job, 1) },
        { kind: 'settled', data: settled(runId, job, 0, 1, ['a', 's', 'a']) },
      ];
      for (const order of [
        [0, 1, 2],
        [2, 1, 0],
        [1, 2, 0],
        [2, 0, 1],
      ]) {
        const store = open();
        const job = newJob();
        for (const i of order) await store.fold(batchOf([facts(`${job}@t`, job)[i] as Fact]));
        for (const i of order) await store.fold(batchOf([facts(`${job}@t`, job)[i] as Fact]));
        expect(await closed(store, job)).toMatchObject([{ verdict: 'succeeded', planned: 3, counts: { applied: 2, skipped: 1 } }]);
      }
    });

    test('says how many chunks a sealed run still waits for, none once it has closed, and nothing of one that is not sealed', async () => {
      const store = open();
      const job = newJob();
      const fold = async (...facts: Fact[]) => (await store.fold(batchOf(facts))).awaited;
      const settle = (seq: number): Fact => ({ kind: 'settled', data: settled(`${job}@t`, job, seq, 1, ['a', 'a', 'a']) });
      expect(await fold(settle(0))).toBe(Number.POSITIVE_INFINITY);
      expect(await fold({ kind: 'planned', data: planned(`${job}@t`, job, 4) })).toBe(3);
      expect(await fold(settle(1), settle(2))).toBe(1);
      // Of several runs the one that is nearest to its end counts.
      expect(await fold(settle(1), { kind: 'planned', data: planned(`${job}@u`, job, 7) })).toBe(1);
      expect(await fold(settle(3))).toBe(0);
      expect(await fold()).toBe(0);
    });

    test('folds of one run at the same time count every fact once, and close it', async () => {
      const store = open();
      const job = newJob();
      const facts = Array.from({ length: 8 }, (_, seq) => settled(`${job}@t`, job, seq, 1, ['a', 'a', 'x']));
      await Promise.all([
        store.fold(batchOf([{ kind: 'planned', data: planned(`${job}@t`, job, 8) }])),
        ...[...facts, ...facts].map((data) => store.fold(batchOf([{ kind: 'settled', data }]))),
      ]);
      expect(await closed(store, job)).toMatchObject([{ planned: 24, counts: { applied: 16, failed: 8 } }]);
    });

    test('an empty plan closes at once; a plan that failed closes as failed', async () => {
      const store = open();
      const job = newJob();
      await store.fold(batchOf([{ kind: 'planned', data: planned(`${job}@empty`, job, 0) }]));
      const { plannedAt: failedAt, replaced: _, ...plan } = planned(`${job}@broken`, job, 0);
      await store.fold(batchOf([{ kind: 'planFailed', data: { ...plan, failedAt, code: 'MR1012', message: 'broke off' } }]));
      expect((await closed(store, job)).map(({ runId, verdict }) => [runId, verdict]).sort()).toEqual([
        [`${job}@broken`, 'failed'],
        [`${job}@empty`, 'succeeded'],
      ]);
    });

    test('a close that its planner has missed is told again with its plan', async () => {
      const store = open();
      const job = newJob();
      const plan: Fact = { kind: 'planned', data: planned(`${job}@t`, job, 0) };
      await store.fold(batchOf([plan]));
      await store.clearOutbox([`${job}@t/0/run.closed`]);
      expect(await closed(store, job)).toEqual([]);
      await store.fold(batchOf([plan]));
      expect(await closed(store, job)).toHaveLength(1);
    });

    test.each(Array.from({ length: sequences }, (_, i) => 2_000 + i))('history %i gives the books of the model', async (seed) => {
      const job = newJob();
      const books = async (store: LedgerStore) => play(store, new Random(seed), job);
      expect(await books(open())).toEqual(await books(model()));
    });
  });
}

/** A seeded history of one run with a redrive, its facts shuffled, doubled and batched. */
async function play(store: LedgerStore, random: Random, job: string): Promise<unknown[]> {
  const runId = `${job}@t`;
  const chunks = random.int(0, 4);
  const facts: Fact[] = [
    { kind: 'opened', data: opened(runId, job) },
    { kind: 'planned', data: planned(runId, job, chunks, 0, { duplicates: random.int(0, 2) }) },
  ];
  const redriven: Fact[] = [];
  const replaced = noCounts();
  let taken = 0;
  for (let seq = 0; seq < chunks; seq++) {
    let states = Array.from({ length: SIZE }, () => random.pick<ItemState>(['a', 's', 'f', 'x', 'r']));
    for (let attempt = 1; ; attempt++) {
      facts.push({ kind: 'settled', data: settled(runId, job, seq, attempt, states) });
      if (!states.includes('f')) break;
      states = states.map((state) => (state === 'f' ? random.pick<ItemState>(['a', 'f', 'x']) : state));
    }
    if (!states.some((state) => state === 'x' || state === 'r')) continue;
    for (const state of states) if (state === 'x' || state === 'r') replaced[state === 'x' ? 'failed' : 'rejected']++;
    taken += states.filter((state) => state === 'x' || state === 'r').length;
    redriven.push({
      kind: 'settled',
      data: settled(
        runId,
        job,
        seq,
        1,
        states.map((state) => (state === 'x' || state === 'r' ? random.pick<ItemState>(['a', 'x']) : '-')),
        1,
      ),
    });
  }
  const answers: unknown[] = [];
  const fold = async (list: readonly Fact[]) => {
    const doubled = random.shuffle([...list, ...list.filter(() => random.chance(0.4))]);
    while (doubled.length > 0) {
      const { gained, awaited } = await store.fold(batchOf(doubled.splice(0, random.int(1, 4))));
      answers.push([[...gained], awaited]);
    }
    const owed = (await store.outbox(1_000)).filter(({ data }) => data.job === job);
    answers.push(owed.map(({ id, data }) => [id, { ...data, openedAt: 0, closedAt: 0 }]));
    await store.clearOutbox(owed.map(({ id }) => id));
    answers.push(
      (await store.standing()).filter((one) => one.job === job).map((one) => ({ ...one, lastSuccess: one.lastSuccess !== null })),
    );
  };
  await fold(facts);
  if (redriven.length > 0) {
    const again: Fact[] = [
      { kind: 'opened', data: opened(runId, job, 1) },
      { kind: 'planned', data: planned(runId, job, redriven.length, 1, { items: taken, replaced }) },
    ];
    await fold([...again, ...redriven, ...facts.filter(() => random.chance(0.3))]);
  }
  return JSON.parse(JSON.stringify(answers)) as unknown[];
}
