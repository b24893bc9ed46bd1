import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Chunk, ChunkSettled, FACTS, Redrive, Tick, Trigger, VERSION_HEADER } from './messages.ts';

const tick = { job: 'nightly', nominal: 1_000, revision: 'r1', emittedAt: 1_001, clock: 'c1' };

describe('messages', () => {
  test('ids and subjects are derived from what a message says', () => {
    const [a, b] = [Tick.envelope(tick, 5), Tick.envelope({ ...tick, emittedAt: 2_000, clock: 'c2' }, 9)];
    expect([a.id, a.subject]).toEqual([b.id, b.subject]);
    expect(a.subject).toBe('millrace.ticks.nightly.1000');
  });

  test('a message reads back as it was, with its trace context', () => {
    const read = Tick.read(Tick.envelope(tick, 5, { traceparent: '00-a-b-01' }));
    expect(read).toEqual({
      ok: true,
      message: { id: 'nightly@1000', kind: 'tick', at: 5, data: tick, trace: { traceparent: '00-a-b-01' } },
    });
  });

  test('another version is refused with its number, before the body is looked at', () => {
    const envelope = Tick.envelope(tick, 5);
    expect(Tick.read({ ...envelope, headers: { ...envelope.headers, [VERSION_HEADER]: '2' }, body: new Uint8Array([0xff]) })).toEqual({
      ok: false,
      reason: 'MR4002 tick version "2", this code reads 1',
    });
  });

  test('a body that breaks the schema is refused with the place', () => {
    const envelope = Tick.envelope({ ...tick, nominal: 'soon' } as never, 5);
    expect(Tick.read(envelope)).toEqual({ ok: false, reason: expect.stringMatching(/^MR4001 tick\/nominal /) });
  });

  test('no bytes make a reader throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(Tick, Trigger, Redrive, Chunk, ...FACTS), (body, type) => {
        const headers = { 'millrace-kind': type.kind, 'millrace-version': String(type.version) };
        const read = type.read({ id: 'x', headers, body });
        expect(read.ok).toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  test('a settled chunk names its attempt in its id, so that a retry is another fact', () => {
    const settled = {
      runId: 'a@b',
      job: 'a',
      generation: 0,
      seq: 3,
      attempt: 2,
      size: 5,
      outcomes: '5a',
      failures: [],
      skips: {},
      settledAt: 1,
      timing: { queued: 0, process: 0, commit: 0 },
    };
    expect(ChunkSettled.envelope(settled, 1).id).toBe('a@b/0/3/2/settled');
    expect(ChunkSettled.read(ChunkSettled.envelope({ ...settled, outcomes: '4a' }, 1))).toEqual({
      ok: false,
      reason: 'MR4001 chunk.settled: outcomes "4a" do not describe 5 items',
    });
  });
});
