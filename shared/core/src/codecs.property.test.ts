import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { TSchema } from 'typebox';
import {
  Chunk,
  ChunkSettled,
  chunkIdOf,
  decodeStates,
  encodeStates,
  FACTS,
  type ItemState,
  KIND_HEADER,
  type MessageType,
  mergeStates,
  noCounts,
  parseInstant,
  Redrive,
  RunClosed,
  RunOpened,
  RunPlanFailed,
  RunPlanned,
  readManifest,
  runIdOf,
  splitRunId,
  Tick,
  Trigger,
  tickOf,
  VERSION_HEADER,
} from './index.ts';

const STATES: readonly ItemState[] = ['-', 'p', 'f', 'c', 'e', 'i', 'x', 'r', 's', 'd', 'a'];
const states = fc.array(fc.constantFrom(...STATES), { minLength: 1, maxLength: 60 });
const id = fc.string({ minLength: 1, maxLength: 40 });
const job = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
const count = fc.nat({ max: 1_000_000 });
const when = fc.integer({ min: 0, max: 4_000_000_000_000 });
const params = fc.dictionary(fc.string({ minLength: 1, maxLength: 8 }), fc.jsonValue({ maxDepth: 1 }), { maxKeys: 3 });
const run = { runId: id, job, generation: count };
const counts = fc.record(Object.fromEntries(Object.keys(noCounts()).map((outcome) => [outcome, count])));

/** A kind of message, and how its data may look. */
const MESSAGES = [
  [Tick, fc.record({ job, nominal: when, revision: id, emittedAt: when, clock: id })],
  [Trigger, fc.record({ job, key: id, requestedAt: when, params })],
  [
    Redrive,
    fc.record({
      runId: id,
      job,
      generation: fc.integer({ min: 1, max: 9 }),
      requestedAt: when,
      keys: fc.array(fc.string(), { maxLength: 3 }),
    }),
  ],
  [
    Chunk,
    fc.record({
      ...run,
      seq: count,
      attempt: fc.integer({ min: 1, max: 99 }),
      size: fc.integer({ min: 1, max: 500 }),
      openedAt: when,
      tickAt: when,
      tick: id,
      params,
      items: fc.array(fc.tuple(fc.string({ minLength: 1, maxLength: 9 }), fc.jsonValue({ maxDepth: 2 })), { maxLength: 5 }),
    }),
  ],
  [
    ChunkSettled,
    states.chain((list) =>
      fc.record({
        ...run,
        seq: count,
        attempt: fc.integer({ min: 1, max: 99 }),
        size: fc.constant(list.length),
        outcomes: fc.constant(encodeStates(list)),
        failures: fc.constant([]),
        skips: fc.dictionary(fc.string({ minLength: 1, maxLength: 9 }), count, { maxKeys: 3 }),
        settledAt: when,
        timing: fc.record({ queued: count, process: count, commit: count }),
      }),
    ),
  ],
  [
    RunOpened,
    fc.record({
      ...run,
      tick: id,
      nominal: fc.option(when),
      cause: fc.constantFrom('tick', 'trigger', 'after', 'redrive'),
      openedAt: when,
      manifest: fc.constant({ tolerate: { count: 0, percent: 1 }, onEmpty: 'ok' }),
      params,
    }),
  ],
  [RunPlanned, fc.record({ ...run, chunks: count, items: count, duplicates: count, plannedAt: when, replaced: counts })],
  [RunPlanFailed, fc.record({ ...run, chunks: count, items: count, duplicates: count, failedAt: when, code: id, message: fc.string() })],
] as const;

/** Each has its own type of data; reading needs none of them. */
const KINDS: readonly Pick<MessageType<string, TSchema>, 'kind' | 'read'>[] = [...MESSAGES.map(([kind]) => kind), RunClosed];

test('every kind of message comes back as it was sent', () => {
  for (const [kind, data] of MESSAGES)
    fc.assert(
      fc.property(data as fc.Arbitrary<unknown>, when, (sent, at) => {
        const read = kind.read(kind.envelope(sent as never, at));
        expect(read.ok ? read.message : read.reason).toEqual(expect.objectContaining({ at, data: JSON.parse(JSON.stringify(sent)) }));
      }),
      { numRuns: 100 },
    );
});

test('no bytes make a decoder throw: each is read, or refused with a reason', () => {
  const encoder = new TextEncoder();
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.json({ maxDepth: 2 }).map((text) => encoder.encode(text)),
    // A message of ours in which a few bytes have been changed.
    fc.tuple(MESSAGES[4][1], fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 })).map(([sent, changes]) => {
      const bytes = Uint8Array.from(ChunkSettled.envelope(sent as never, 1).body);
      for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
      return bytes;
    }),
  );
  const headers = fc.record({
    [KIND_HEADER]: fc.constantFrom(...FACTS.map(({ kind }) => kind as string), 'tick', 'chunk', 'nonsense'),
    [VERSION_HEADER]: fc.constantFrom('1', '1', '1', '2', ''),
  });
  let refused = 0;
  let read = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(body, headers), { minLength: 20, maxLength: 20 }), (messages) => {
      for (const [bytes, head] of messages) {
        for (const kind of KINDS) {
          const result = kind.read({ id: 'x', headers: { ...head, [KIND_HEADER]: kind.kind }, body: bytes });
          if (result.ok) read++;
          else {
            refused++;
            if (!/^MR400[12] ./.test(result.reason)) throw new Error(`refused without a reason: ${result.reason}`);
          }
        }
      }
    }),
    { numRuns: 560 },
  );
  expect(refused + read).toBeGreaterThanOrEqual(100_000);
  expect(read).toBeGreaterThan(0);
});

test('item states, run ids and instants round-trip; whatever else is refused, never thrown at', () => {
  fc.assert(
    fc.property(states, (list) => {
      expect(decodeStates(encodeStates(list), list.length)).toEqual(list);
      expect(decodeStates(encodeStates(list), list.length + 1)).toBeUndefined();
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-z-]{0,12}$/)), fc.nat({ max: 50 }), (text, size) => {
      const decoded = decodeStates(text, size);
      if (decoded) expect(decoded).toHaveLength(size);
      expect(splitRunId(text) ?? { job: text, tick: '' }).toBeTruthy();
      const instant = parseInstant(text);
      if (instant !== undefined) expect(Number.isFinite(instant)).toBe(true);
      try {
        readManifest(text);
      } catch (error) {
        expect(error).toMatchObject({ code: 'MR4001' });
      }
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(job, when, count, count, (name, at, generation, seq) => {
      const runId = runIdOf(name, tickOf(at));
      expect(splitRunId(runId)).toEqual({ job: name, tick: tickOf(at) });
      expect(parseInstant(tickOf(at))).toBe(at);
      expect(chunkIdOf(runId, generation, seq).startsWith(`${runId}/`)).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test('merged texts stay texts of the same size', () => {
  fc.assert(
    fc.property(
      fc
        .integer({ min: 1, max: 40 })
        .chain((size) => fc.tuple(...[0, 1].map(() => fc.array(fc.constantFrom(...STATES), { minLength: size, maxLength: size })))),
      (pair) => {
        const [a = [], b = []] = pair;
        const merged = decodeStates(mergeStates(encodeStates(a), encodeStates(b), a.length), a.length);
        expect(merged?.every((state, i) => state === a[i] || state === b[i])).toBe(true);
      },
    ),
    { numRuns: 500 },
  );
});
