import { describe, expect, test } from '@jest/globals';
import type { Chunk, Failure, ItemState } from '@millrace/core';
import { Random } from '../../../tools/simulation/random.ts';
import type { Settled } from './domain/results.ts';
import type { Entry, Inbox, InboxRow, InboxTransaction } from './inbox.ts';

/** An inbox and the database that it lives in. That has a table `effects` (run, key, poison), which refuses poisonous rows with 23514. */
export interface InboxRig {
  readonly inbox: Inbox;
  /** Deletes what is older, behind a fence. */
  purge(retention: number): Promise<number>;
  /** The keys of the effects of a run that are committed, sorted. */
  effects(run: string): Promise<readonly string[]>;
}

const TIMING = { queued: 1, process: 2, commit: 3 };
const HOUR = 3_600_000;
const SIZE = 4;

let runs = 0;

/** `model` answers as the simulation does; seeded histories must be told alike by both. */
export function inboxContract(name: string, open: () => Promise<InboxRig>, model: () => Promise<InboxRig>, histories: number): void {
  describe(`${name} as an Inbox`, () => {
    test('what was stored is found as it was, and another generation of the chunk is another row', async () => {
      const { inbox } = await open();
      const chunk = chunkOf(newRun());
      const settled: Settled = {
        attempt: 2,
        states: ['a', 's', 'x', 'p'],
        failures: [failureOf(2)],
        skips: { unchanged: 1 },
        retryAfter: 300,
      };
      expect(await inbox.find(chunk)).toBeUndefined();
      const stored = await inbox.transaction((tx) => tx.insert(chunk, settled, TIMING));
      expect(stored).toMatchObject({ ...settled, size: SIZE, timing: TIMING });
      expect(await inbox.find(chunk)).toEqual(stored);
      expect(await inbox.find({ ...chunk, generation: 1 })).toBeUndefined();
    });

    test('effects are committed with their row or not at all', async () => {
      const { inbox, effects } = await open();
      const chunk = chunkOf(newRun());
      const failing = inbox.transaction(async (tx) => {
        await tx.insert(chunk, settledOf('aaaa'), TIMING);
        await tx.effects((sink) => write(sink, chunk.runId, ['k0']));
        throw new Error('changed my mind');
      });
      await expect(failing).rejects.toThrow('changed my mind');
      expect([await inbox.find(chunk), await effects(chunk.runId)]).toEqual([undefined, []]);
      await inbox.transaction(async (tx) => {
        await tx.insert(chunk, settledOf('aaaa'), TIMING);
        await tx.effects((sink) => write(sink, chunk.runId, ['k0', 'k1']));
      });
      expect(await effects(chunk.runId)).toEqual(['k0', 'k1']);
    });

    test('a second delivery waits for the first: it makes the row if that gives up, and finds it otherwise', async () => {
      const { inbox } = await open();
      for (const givesUp of [true, false]) {
        const chunk = chunkOf(newRun());
        let second: Promise<InboxRow | undefined> | undefined;
        const first = inbox.transaction(async (tx) => {
          await tx.insert(chunk, settledOf('aaaa'), TIMING);
          second = inbox.transaction((other) => other.insert(chunk, settledOf('ssss'), TIMING));
          if (givesUp) throw new Error('gave up');
        });
        await (givesUp ? expect(first).rejects.toThrow('gave up') : first);
        expect((await second)?.states.join('')).toBe(givesUp ? 'ssss' : undefined);
        expect((await inbox.find(chunk))?.states.join('')).toBe(givesUp ? 'ssss' : 'aaaa');
      }
    });

    test('two that change a row at the same time take turns, and the second sees what the first did', async () => {
      const { inbox } = await open();
      const chunk = chunkOf(newRun());
      await inbox.transaction((tx) => tx.insert(chunk, settledOf('----'), TIMING));
      const settleOne = (position: number) =>
        inbox.transaction(async (tx) => {
          const states = [...((await tx.lock(chunk))?.states ?? [])];
          states[position] = 'a';
          await tx.update(chunk, settledOf(states.join('')), TIMING);
        });
      await Promise.all([0, 1, 2, 3].map(settleOne));
      expect((await inbox.find(chunk))?.states.join('')).toBe('aaaa');
    });

    test('a savepoint that fails leaves nothing, and the transaction goes on', async () => {
      const { inbox, effects } = await open();
      const chunk = chunkOf(newRun());
      await inbox.transaction(async (tx) => {
        await tx.insert(chunk, settledOf('axaa'), TIMING);
        await tx.savepoint((sink) => write(sink, chunk.runId, ['k0']));
        await expect(tx.savepoint((sink) => write(sink, chunk.runId, ['k1'], true))).rejects.toMatchObject({ code: '23514' });
        await tx.savepoint((sink) => write(sink, chunk.runId, ['k2']));
      });
      expect(await effects(chunk.runId)).toEqual(['k0', 'k2']);
    });

    test('effects that fail doom the transaction, even when somebody swallows the error', async () => {
      const { inbox, effects } = await open();
      const chunk = chunkOf(newRun());
      await inbox.transaction(async (tx) => {
        await tx.insert(chunk, settledOf('aaaa'), TIMING);
        await tx.effects((sink) => write(sink, chunk.runId, ['k0']));
        const careless = tx.effects((sink) => write(sink, chunk.runId, ['k1'], true).catch(() => {}));
        await expect(careless).rejects.toMatchObject({ code: '23514' });
        await expect(tx.lock(chunk)).rejects.toMatchObject({ code: '25P02' });
      });
      expect([await inbox.find(chunk), await effects(chunk.runId)]).toEqual([undefined, []]);
    });

    test('a row and its effects in one round trip: together, once, or not at all', async () => {
      const { inbox, effects } = await open();
      const [chunk, poisoned] = [chunkOf(newRun()), chunkOf(newRun())];
      const [stored] = (await inbox.insertWithRows([entryOf(chunk, 'aa--', ['k0', 'k1'])], EFFECTS)) ?? [];
      expect(await inbox.find(chunk)).toEqual(stored);
      await expect(inbox.insertWithRows([entryOf(chunk, 'aaaa', ['k2'])], EFFECTS)).rejects.toMatchObject({ code: '23505' });
      await expect(inbox.insertWithRows([entryOf(poisoned, 'aaaa', ['k0'], true)], EFFECTS)).rejects.toMatchObject({ code: '23514' });
      expect(await effects(chunk.runId)).toEqual(['k0', 'k1']);
      expect([await inbox.find(poisoned), await effects(poisoned.runId)]).toEqual([undefined, []]);
    });

    test('rows of several chunks go together: all or none', async () => {
      const { inbox, effects } = await open();
      const run = newRun();
      const [first, second, third] = [0, 1, 2].map((seq) => ({ ...chunkOf(run), seq })) as [Chunk, Chunk, Chunk];
      const stored = await inbox.insertWithRows([entryOf(first, 'aasf', ['k0', 'k1']), entryOf(second, 'aa--', ['k2'])], EFFECTS);
      expect([await inbox.find(first), await inbox.find(second)]).toEqual(stored);
      expect(stored?.map(({ states }) => states.join(''))).toEqual(['aasf', 'aa--']);
      for (const [other, code] of [
        [entryOf(second, 'aaaa', ['k4']), '23505'],
        [entryOf({ ...third, seq: 3 }, 'aaaa', ['k4'], true), '23514'],
        [entryOf(third, 'aaaa', ['k4']), '23505'],
      ] as const)
        await expect(inbox.insertWithRows([entryOf(third, 'aaaa', ['k3']), other], EFFECTS)).rejects.toMatchObject({ code });
      expect([await inbox.find(third), await effects(run)]).toEqual([undefined, ['k0', 'k1', 'k2']]);
    });

    test('behind the fence of a purge nothing is applied again, whichever way it comes', async () => {
      const { inbox, purge, effects } = await open();
      const chunk = chunkOf(newRun(), Date.now() - 3 * HOUR);
      await inbox.transaction((tx) => tx.insert(chunk, settledOf('aaaa'), TIMING));
      expect(await purge(HOUR)).toBe(0);
      expect((await inbox.find(chunk))?.states.join('')).toBe('aaaa');
      for (const late of [chunk, { ...chunk, seq: 1 }]) {
        await expect(inbox.transaction((tx) => tx.insert(late, settledOf('aaaa'), TIMING))).rejects.toMatchObject({ code: 'MR4004' });
        const { runId } = late;
        const young = { ...chunkOf(runId), seq: 7 };
        await expect(inbox.insertWithRows([entryOf(young, 'aaaa', ['k0']), entryOf(late, 'aaaa', ['k1'])], EFFECTS)).rejects.toMatchObject({
          code: '22012',
        });
      }
      expect(await effects(chunk.runId)).toEqual([]);
      const young = chunkOf(newRun());
      await expect(inbox.transaction((tx) => tx.insert(young, settledOf('aaaa'), TIMING))).resolves.toBeDefined();
    });

    test.each(Array.from({ length: histories }, (_, i) => 3_000 + i))('history %i is told as the model tells it', async (seed) => {
      const run = newRun();
      expect(await play(await open(), new Random(seed), run)).toEqual(await play(await model(), new Random(seed), run));
    });
  });
}

/** Transactions of all kinds on three chunks, one after the other; some fail half-way. */
async function play({ inbox, effects }: InboxRig, random: Random, run: string): Promise<unknown[]> {
  const answers: unknown[] = [];
  const note = (answer: unknown) => answers.push(JSON.parse(JSON.stringify(answer ?? null)));
  for (let step = 0; step < 25; step++) {
    const chunk = { ...chunkOf(run), seq: random.int(0, 2), generation: random.int(0, 1) };
    const settled: Settled = {
      attempt: random.int(1, 3),
      states: Array.from({ length: SIZE }, () => random.pick<ItemState>(['a', 's', 'f', 'x', 'r', 'p', '-'])),
      failures: random.chance(0.5) ? [failureOf(random.int(0, 3))] : [],
      skips: random.chance(0.5) ? { unchanged: random.int(1, 3) } : {},
      retryAfter: random.chance(0.5) ? random.int(0, 5_000) : undefined,
    };
    const keys = Array.from({ length: random.int(0, 3) }, (_, i) => `k${step}-${i}`);
    const poison = random.chance(0.2);
    const giveUp = random.chance(0.2);
    const kind = random.pick(['find', 'rows', 'insert', 'update', 'savepoint'] as const);
    const within = async (tx: InboxTransaction) => {
      if (kind === 'insert') note(rowOf(await tx.insert(chunk, settled, TIMING)));
      else note(rowOf(await tx.lock(chunk)));
      if (kind === 'update') note(rowOf(await tx.update(chunk, settled, TIMING)));
      if (kind === 'savepoint') await tx.savepoint((sink) => write(sink, run, keys, poison)).catch((error) => note(codeOf(error)));
      else await tx.effects((sink) => write(sink, run, keys, poison));
      if (giveUp) throw new Error('gave up');
    };
    try {
      if (kind === 'find') note(rowOf(await inbox.find(chunk)));
      else if (kind === 'rows') {
        const [stored] = (await inbox.insertWithRows([entryFrom(chunk, settled, keys, poison)], EFFECTS)) ?? [];
        note(rowOf(stored));
      } else await inbox.transaction(within);
    } catch (error) {
      note(codeOf(error));
    }
  }
  return [...answers, await effects(run)];
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown }).code ?? (error as Error).message);
}

function rowOf(row: InboxRow | undefined): unknown {
  return row && { ...row, settledAt: 0 };
}

function newRun(): string {
  return `inbox-${process.pid}-${++runs}@t`;
}

function chunkOf(runId: string, openedAt = Date.now()): Chunk {
  const items = Array.from({ length: SIZE }, (_, i): [string, unknown] => [`k${i}`, {}]);
  const about = { runId, job: 'inbox', generation: 0, seq: 0, attempt: 1 };
  return { ...about, size: SIZE, openedAt, tickAt: openedAt, tick: 't', params: {}, items };
}

function settledOf(states: string): Settled {
  return { attempt: 1, states: [...states] as ItemState[], failures: [], skips: {}, retryAfter: undefined };
}

function failureOf(position: number): Failure {
  return { position, key: `k${position}`, fingerprint: 'abc', title: 'broken', message: 'it is broken', class: 'permanent' };
}

const EFFECTS = { table: 'effects', columns: ['run', 'key', 'poison'] };

function rowsOf(run: string, keys: readonly string[], poison: boolean): unknown[][] {
  return keys.map((key) => [run, key, poison]);
}

function entryFrom(chunk: Chunk, settled: Settled, keys: readonly string[], poison: boolean): Entry {
  return { chunk, settled, timing: TIMING, effects: keys.map((key) => ({ run: chunk.runId, key, poison })) };
}

function entryOf(chunk: Chunk, states: string, keys: readonly string[], poison = false): Entry {
  return entryFrom(chunk, settledOf(states), keys, poison);
}

type Sink = Parameters<Parameters<InboxTransaction['effects']>[0]>[0];

async function write(sink: Sink, run: string, keys: readonly string[], poison = false): Promise<void> {
  await sink.copy(EFFECTS.table, EFFECTS.columns, rowsOf(run, keys, poison));
}
