import { expect, test } from '@jest/globals';
import { Chunk, type Envelope, keysIn } from '@millrace/core';
import { trace } from '@opentelemetry/api';
import { ChunkWriter, TOGETHER } from './chunk-writer.ts';
import { DispatchSpans } from './dispatch-spans.ts';
import { ChunkBuffers } from './domain/chunk-buffers.ts';
import type { BuiltChunk } from './domain/chunk-builder.ts';
import type { PlanningRun, PlanStore } from './plan-store.ts';
import { jobOf } from './planner-fixture.ts';

const CHUNKS = 200;
const run = {
  runId: 'j@t',
  job: 'j',
  tick: 't',
  nominal: null,
  params: {},
  openedAt: 0,
  trace: {},
  manifest: jobOf('j', () => []).manifest,
} as unknown as PlanningRun;

const turns = async (count: number) => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};
const keysOfMessage = (message: Envelope) => {
  const read = Chunk.read(message);
  return read.ok ? read.message.data.items.map(([key]) => String(key)) : [read.reason];
};

test('memory is used again, and never while the store or the broker may still read it', async () => {
  let now = 0;
  const buffers = new ChunkBuffers();
  const memory = new Set<ArrayBufferLike>();
  const stored: string[] = [];
  const confirmed: string[] = [];
  const refused: Envelope[] = [];
  const writer = new ChunkWriter(
    run,
    {
      buffers,
      window: 1_000,
      time: { now: () => (now += 1_000), sleep: async () => undefined },
      spans: new DispatchSpans('memory'),
      confirmed: () => undefined,
      wakeDispatcher: () => undefined,
      store: {
        // Some of each group stay behind, as when the window is full.
        async appendChunks(_: unknown, chunks: readonly BuiltChunk[], __: unknown, window: number) {
          await turns(3);
          stored.push(...chunks.flatMap(({ payload }) => keysIn(payload)));
          return Math.min(window, Math.max(1, chunks.length - 2));
        },
        releaseChunks: async () => undefined,
      } as unknown as PlanStore,
      work: {
        async publish(messages) {
          for (const { body } of messages) memory.add(body.buffer);
          await turns(5);
          if (confirmed.length > 60 && refused.length === 0) {
            refused.push(...messages);
            throw new Error('the broker went away, and may still come to read these');
          }
          confirmed.push(...messages.flatMap(keysOfMessage));
        },
      },
    },
    trace.getTracer('test').startSpan('plan'),
    new AbortController().signal,
  );
  for (let seq = 0; seq < CHUNKS; seq++) {
    const payload = buffers.from(JSON.stringify([[`k${seq}`, {}]]));
    memory.add(payload.buffer);
    if (!writer.add({ seq, size: 1, payload })) continue;
    await writer.flush({ cursor: undefined, items: seq + 1, duplicates: 0 });
    expect(writer.keysOf(seq)).toEqual([`k${seq}`]);
    await writer.stored();
    // From here on the store has them: their memory may hold something else.
    expect(writer.keysOf(seq)).toBeUndefined();
  }
  await writer.over();
  expect(stored).toEqual(Array.from({ length: stored.length }, (_, seq) => `k${seq}`));
  expect(stored.length).toBeGreaterThan(CHUNKS - TOGETHER);
  expect(new Set(confirmed).size).toBe(confirmed.length);
  expect(confirmed.every((key) => /^k\d+$/.test(key))).toBe(true);
  expect(refused.flatMap(keysOfMessage).every((key) => stored.includes(key) && !confirmed.includes(key))).toBe(true);
  expect(refused.length).toBeGreaterThan(0);
  expect(memory.size).toBeLessThan(3 * TOGETHER);
});
