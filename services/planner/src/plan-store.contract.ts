import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { type ChunkSettled, encodeStates, type ItemState, type JobManifest, noCounts, type RunClosed } from '@millrace/core';
import { defineJob } from 'millrace';
import { Random } from '../../../tools/simulation/random.ts';
import type { BuiltChunk } from './domain/chunk-builder.ts';
import type { ChunkId, DueChunk, NewRun, PlanningRun, PlanStore } from './plan-store.ts';

const HOUR = 3_600_000;
/** A pause that is over. */
const OVER = -HOUR;
const START = Date.UTC(2020, 0, 1);

let jobs = 0;

function manifestOf(overlap: 'skip' | 'allow' | 'bufferOne' = 'allow', after: readonly string[] = [], spool = false): JobManifest {
  const schedule = { cron: '*/10 * * * * *', timeZone: 'UTC', overlap, catchUp: { mode: 'all', window: '36500d' } } as const;
  return defineJob(`job${process.pid}-${++jobs}`, {
    ...(after.length > 0 ? { after: after.map((job) => ({ job, on: 'closed' as const })) } : { schedule }),
  })
    .items(() => [], { key: String, spool })
    .process(() => ({}))
    .commit(() => {}).manifest;
}

function newRun(manifest: JobManifest, key: string): NewRun {
  const tick = `manual:${key}`;
  return {
    runId: `${manifest.name}@${tick}`,
    tick,
    nominal: null,
    cause: 'trigger',
    manifest,
    params: { key },
    limit: undefined,
    trace: {},
  };
}

function chunksFrom(seq: number, count: number, size = 3): BuiltChunk[] {
  return Array.from({ length: count }, (_, i) => {
    const keys = Array.from({ length: size }, (_, k) => `k${seq + i}.${k}`);
    return { seq: seq + i, size, payload: Buffer.from(JSON.stringify(keys.map((key) => [key, { key }]))) };
  });
}

type Settled = Parameters<PlanStore['settleChunks']>[0][number];

function settled(chunk: ChunkId, job: string, attempt: number, states: readonly ItemState[], next?: Settled['next']): Settled {
  const failures = states.flatMap((state, position): ChunkSettled['failures'] =>
    'frx'.includes(state)
      ? [{ position, key: `k${position}`, fingerprint: `f${position % 2}`, title: 't', message: 'm', class: 'transient' }]
      : [],
  );
  const { runId, generation, seq } = chunk;
  const fact = {
    runId,
    job,
    generation,
    seq,
    attempt,
    size: states.length,
    outcomes: encodeStates(states),
    failures,
    skips: {},
    settledAt: 1,
  };
  return { ...fact, timing: { queued: 0, process: 0, commit: 0 }, next };
}

function closedFact(
  run: { runId: string; job: string; tick: string },
  generation = 0,
  verdict: RunClosed['verdict'] = 'succeeded',
): RunClosed {
  const { runId, job, tick } = run;
  return { runId, job, generation, tick, nominal: null, verdict, planned: 0, counts: noCounts(), openedAt: 1, closedAt: 2 };
}

const untraced = () => ({});

/** First attempts, then retries. */
async function claim(store: PlanStore, jobs: readonly string[], window: number): Promise<DueChunk[]> {
  const how = { jobs, window, limit: 500, throttled: [] };
  return [...(await store.claimChunks({ ...how, kind: 'first' })), ...(await store.claimChunks({ ...how, kind: 'retry' }))];
}

/** The same calls must give the same answers on every adapter. `model` is the store that all others are compared with. */
export function planStoreContract(name: string, open: () => PlanStore, model: () => PlanStore, sequences: number): void {
  describe(`${name} as a PlanStore`, () => {
    /** A planned and sealed run of `chunks` chunks. */
    async function planned(store: PlanStore, manifest: JobManifest, chunks: number): Promise<PlanningRun> {
      await store.registerJob(manifest, START);
      await store.admitRun(newRun(manifest, 'k'));
      const run = (await store.claimRun([manifest.name], HOUR)) as PlanningRun;
      await store.appendChunks(run, chunksFrom(0, chunks), { cursor: undefined, items: 3 * chunks, duplicates: 0 }, 0);
      await store.seal(run, [], 0);
      return run;
    }

    test('a tick is decided once, whoever decides it, and never before it is due', async () => {
      const store = open();
      const manifest = manifestOf();
      await store.registerJob(manifest, START);
      const first = await store.admitTicks(manifest, START + 25_000, untraced);
      expect(first.opened).toEqual([`${manifest.name}@2020-01-01T00:00:10Z`, `${manifest.name}@2020-01-01T00:00:20Z`]);
      expect((await store.admitTicks(manifest, START + 25_000, untraced)).opened).toEqual([]);
      const now = await store.now();
      const { opened } = await store.admitTicks(
        { ...manifest, schedule: { ...(manifest.schedule as never as object), catchUp: { mode: 'latest', window: HOUR } } } as JobManifest,
        now + HOUR,
        untraced,
      );
      for (const runId of opened) expect(Date.parse(runId.slice(runId.indexOf('@') + 1))).toBeLessThanOrEqual(await store.now());
    });

    test('a run that is admitted and taken at once is opened once, and nobody else’s until its lease is over', async () => {
      const store = open();
      const manifest = manifestOf();
      await store.registerJob(manifest, START);
      const run = newRun(manifest, 'k');
      const own = (await store.admitClaimed(run, OVER)) as PlanningRun;
      expect(own).toMatchObject({ runId: run.runId, params: run.params, epoch: 1, nextSeq: 0, failures: 0 });
      expect([await store.admitClaimed(run, HOUR), await store.admitRun(run)]).toEqual([undefined, false]);
      const heir = await store.claimRun([manifest.name], HOUR);
      expect(heir).toEqual({ ...own, epoch: 2 });
      expect(await store.claimRun([manifest.name], HOUR)).toBeUndefined();
    });

    test('facts that a redrive has added are owed, although those before them were told meanwhile', async () => {
      const store = open();
      const manifest = manifestOf();
      const run = await planned(store, manifest, 1);
      const owed = async () => (await store.owedFacts(100)).find(({ runId }) => runId === run.runId)?.facts.length;
      await store.tellAgain([manifest.name], 0);
      const before = await owed();
      await store.clearOwed(run.runId, (before ?? 0) + 1);
      expect(await owed()).toBe(before);
      await store.clearOwed(run.runId, before ?? 0);
      expect(await owed()).toBeUndefined();
    });

    test('a planner that has lost its run changes nothing', async () => {
      const store = open();
      const manifest = manifestOf();
      await store.registerJob(manifest, START);
      await store.admitRun(newRun(manifest, 'k'));
      const zombie = (await store.claimRun([manifest.name], OVER)) as PlanningRun;
      const heir = (await store.claimRun([manifest.name], HOUR)) as PlanningRun;
      expect(heir.epoch).toBe(zombie.epoch + 1);
      const progress = { cursor: undefined, items: 3, duplicates: 0 };
      expect(await store.appendChunks(zombie, chunksFrom(0, 1), progress, 9)).toBeUndefined();
      expect(await store.renewLease(zombie, HOUR)).toBe(false);
      expect(await store.discardPlan(zombie)).toBe(false);
      expect(await store.seal(zombie, [], 0)).toBe(false);
      expect(await store.appendChunks(heir, chunksFrom(0, 1), progress, 0)).toBe(0);
      expect(await store.appendChunks(heir, chunksFrom(0, 1), progress, 0)).toBeUndefined();
      expect(await store.seal(heir, [], 0)).toBe(true);
      expect(await store.seal(heir, [], 0)).toBe(false);
    });

    test('of the chunks that are stored, the first count as sent as long as the window has room', async () => {
      const store = open();
      const manifest = manifestOf();
      await store.registerJob(manifest, START);
      await store.admitRun(newRun(manifest, 'k'));
      const run = (await store.claimRun([manifest.name], HOUR)) as PlanningRun;
      const append = (seq: number, chunks: number, window: number) =>
        store.appendChunks(run, chunksFrom(seq, chunks), { cursor: undefined, items: 3 * (seq + chunks), duplicates: 0 }, window);
      expect(await append(0, 2, 5)).toBe(2);
      expect(await append(2, 5, 5)).toBe(3);
      expect(await append(7, 1, 5)).toBe(0);
      await store.settleChunks([settled({ runId: run.runId, generation: 0, seq: 0 }, manifest.name, 1, ['a', 'a', 'a'])]);
      expect(await append(8, 2, 5)).toBe(1);
      expect((await claim(store, [manifest.name], 50)).map(({ seq }) => seq).sort((a, b) => a - b)).toEqual([5, 6, 7, 9]);
    });

    test('chunks are claimed once, within the window, and again only when they are released', async () => {
      const store = open();
      const manifest = manifestOf();
      await planned(store, manifest, 5);
      const first = await claim(store, [manifest.name], 3);
      expect(first.map(({ seq, emits }) => [seq, emits]).sort()).toEqual([
        [0, 1],
        [1, 1],
        [2, 1],
      ]);
      expect(await claim(store, [manifest.name], 3)).toEqual([]);
      await store.releaseChunks(first.slice(0, 1));
      expect(await claim(store, [manifest.name], 3)).toHaveLength(1);
    });

    test('a settled chunk stays settled; a late fact of an earlier attempt changes nothing', async () => {
      const store = open();
      const manifest = manifestOf();
      await planned(store, manifest, 1);
      const [chunk] = (await claim(store, [manifest.name], 9)) as [DueChunk];
      await store.settleChunks([settled(chunk, manifest.name, 1, ['a', 'f', 'a'], { in: OVER, attempt: 2 })]);
      await store.settleChunks([settled(chunk, manifest.name, 1, ['a', 'f', 'a'], { in: OVER, attempt: 2 })]);
      const [again] = (await claim(store, [manifest.name], 9)) as [DueChunk];
      expect(again).toMatchObject({ attempt: 2, outcomes: '1a1f1a' });
      await store.settleChunks([settled(chunk, manifest.name, 2, ['a', 'a', 'a'])]);
      await store.settleChunks([settled(chunk, manifest.name, 1, ['a', 'f', 'a'], { in: OVER, attempt: 2 })]);
      expect(await claim(store, [manifest.name], 9)).toEqual([]);
    });

    test('a run is closed once all its chunks have settled here, and opens its dependents with that', async () => {
      const store = open();
      const manifest = manifestOf();
      const dependent = manifestOf('allow', [manifest.name]);
      await store.registerJob(dependent, START);
      const run = await planned(store, manifest, 1);
      const fact = closedFact(run);
      const behind: NewRun = { ...newRun(dependent, 'k'), cause: 'after' };
      expect(await store.closeRun(fact, [behind])).toBe('behind');
      await store.settleChunks([settled({ runId: run.runId, generation: 0, seq: 0 }, manifest.name, 1, ['a', 'x', 'a'])]);
      expect(await store.closeRun(fact, [behind])).toEqual([behind.runId]);
      expect(await store.closeRun(fact, [behind])).toEqual([]);
    });

    test('a redrive takes what failed, once', async () => {
      const store = open();
      const manifest = manifestOf();
      const run = await planned(store, manifest, 2);
      const request = { runId: run.runId, generation: 1, group: undefined, keys: undefined, trace: {}, maxAge: 1_000 * HOUR };
      expect(await store.redrive(request)).toBe('open');
      await store.settleChunks([
        settled({ runId: run.runId, generation: 0, seq: 0 }, manifest.name, 1, ['a', 'x', 'a']),
        settled({ runId: run.runId, generation: 0, seq: 1 }, manifest.name, 1, ['a', 's', 'a']),
      ]);
      await store.closeRun(closedFact(run, 0, 'failed'), []);
      expect(await store.redrive(request)).toBe('opened');
      expect(await store.redrive(request)).toBe('known');
      expect(await claim(store, [manifest.name], 9)).toMatchObject([{ generation: 1, seq: 0, outcomes: '1-1p1-' }]);
    });

    test.each(Array.from({ length: sequences }, (_, i) => 1_000 + i))(
      'sequence %i of calls is answered as the model answers it',
      async (seed) => {
        const manifests = [manifestOf(new Random(seed).pick(['skip', 'allow', 'bufferOne'])), manifestOf('allow', [], true)];
        const dependent = manifestOf('allow', [manifests[0]?.name ?? '']);
        const answers = async (store: PlanStore) => answersOf(store, new Random(seed), [...manifests, dependent]);
        expect(await answers(open())).toEqual(await answers(model()));
      },
    );
  });
}

/** Plays one seeded sequence of calls. What depends on the clock is left out of the answers. */
async function answersOf(store: PlanStore, random: Random, manifests: readonly JobManifest[]): Promise<unknown[]> {
  const answers: unknown[] = [];
  const names = manifests.map(({ name }) => name);
  const [timed, , dependent] = manifests as [JobManifest, JobManifest, JobManifest];
  const held: PlanningRun[] = [];
  const claimed: DueChunk[] = [];
  const known = new Map<string, { runId: string; job: string; tick: string }>();
  let until = START;
  for (const manifest of manifests) await store.registerJob(manifest, START);
  for (let step = 0; step < 60; step++) {
    // PGlite's clock has milliseconds only: what is opened in one of them has no order.
    await delay(2);
    const run = held.length > 0 ? random.pick(held) : undefined;
    const chunk = claimed.length > 0 ? random.pick(claimed) : undefined;
    const call = random.int(0, 16);
    let answer: unknown;
    switch (call) {
      case 0:
        until += random.int(0, 25_000);
        answer = (({ opened, decided }) => ({ opened, decided }))(await store.admitTicks(timed, until, untraced));
        break;
      case 1:
      case 2:
        answer = await store.admitRun(newRun(random.pick(manifests), random.pick(['one', 'two', 'three'])));
        break;
      case 3:
      case 4: {
        const lease = random.pick([HOUR, HOUR, OVER]);
        const got = random.chance(0.3)
          ? await store.admitClaimed(newRun(random.pick(manifests), random.pick(['one', 'two', 'three'])), lease)
          : await store.claimRun(names, lease);
        if (got) held.push(got);
        if (got) known.set(got.runId, got);
        answer = got && { ...got, openedAt: 0 };
        break;
      }
      case 5:
      case 6: {
        if (!run) break;
        const chunks = chunksFrom(run.nextSeq, random.int(1, 3));
        const stored = await store.appendChunks(run, chunks, { cursor: { at: step }, items: step, duplicates: 1 }, random.int(0, 4));
        // Whoever appended them may use their memory again.
        for (const { payload } of chunks) payload.fill(0);
        if (stored !== undefined) held[held.indexOf(run)] = { ...run, nextSeq: run.nextSeq + chunks.length };
        answer = stored;
        break;
      }
      case 7: {
        if (!run) break;
        const failed = random.chance(0.2) ? ([{ code: 'MR1012', message: 'broke off' }] as const) : ([] as const);
        answer = await store.seal(run, [{ kind: 'run.planned', data: { runId: run.runId, step } }], step, ...failed);
        break;
      }
      case 8:
        if (run)
          answer = [await store.postponePlanning(run, OVER, random.chance(0.5)), random.chance(0.3) ? await store.discardPlan(run) : 0];
        break;
      case 9:
      case 10: {
        const due = [...(await claim(store, names, random.pick([2, 50])))].sort(byId);
        claimed.push(...due);
        answer = due.map((one) => ({ ...one, openedAt: 0 }));
        break;
      }
      case 11:
        if (chunk) answer = random.chance(0.5) ? await store.releaseChunks([chunk]) : await store.confirmChunks([chunk]);
        break;
      case 12:
      case 13: {
        if (!chunk) break;
        const states = Array.from({ length: chunk.size }, () => random.pick<ItemState>(['a', 'a', 's', 'x', 'r', 'f']));
        const next = states.includes('f') ? { in: random.pick([OVER, HOUR]), attempt: chunk.attempt + 1 } : undefined;
        answer = await store.settleChunks([settled(chunk, chunk.job, chunk.attempt, states, next)]);
        break;
      }
      case 14: {
        const some = [...known.values()];
        if (some.length === 0) break;
        const closing = random.pick(some);
        const behind: NewRun = {
          ...newRun(dependent, 'x'),
          runId: `${dependent.name}@${closing.tick}`,
          tick: closing.tick,
          cause: 'after',
        };
        answer = await store.closeRun(
          closedFact(closing, random.int(0, 1), random.pick(['succeeded', 'failed'])),
          closing.job === timed.name ? [behind] : [],
        );
        break;
      }
      case 15: {
        const some = [...known.keys()];
        if (some.length === 0) break;
        const keys = random.chance(0.3) ? ['k0.0', 'k0.1', 'k1.2'] : undefined;
        const group = random.chance(0.2) ? 'f1' : undefined;
        answer = await store.redrive({
          runId: random.pick(some),
          generation: random.int(1, 2),
          group,
          keys,
          trace: {},
          maxAge: 1_000 * HOUR,
        });
        break;
      }
      default: {
        const job = random.pick(names);
        const idle = random.pick([OVER, HOUR]);
        answer = {
          stalled: await store.resetStalled(job, idle, random.int(0, 3), 1_000),
          told: random.chance(0.3) ? [...(await store.tellAgain(names, idle))].sort() : [],
          emitted: random.chance(0.3) ? await store.resetEmitted(job) : 0,
        };
      }
    }
    answers.push([step, call, answer ?? null]);
  }
  const owed = [...(await store.owedFacts(100))].filter(({ runId }) => names.some((job) => runId.startsWith(`${job}@`)));
  answers.push(owed.map(({ runId, facts }) => [runId, facts.map(timeless)]).sort());
  for (const runId of known.keys()) answers.push([runId, await store.storedKeys(runId, 0, 100)]);
  answers.push([...(await store.oldestOpen()).keys()].filter((job) => names.includes(job)).sort());
  // Ids hold the process: the same sequence on another store has other job names only if it is another test.
  return JSON.parse(JSON.stringify(answers)) as unknown[];
}

function timeless<Fact extends { readonly data: Record<string, unknown> }>({ data, ...fact }: Fact) {
  return { ...fact, data: { ...data, openedAt: 0, plannedAt: 0 } };
}

function byId(a: ChunkId, b: ChunkId): number {
  return a.runId < b.runId ? -1 : a.runId > b.runId ? 1 : a.generation - b.generation || a.seq - b.seq;
}
