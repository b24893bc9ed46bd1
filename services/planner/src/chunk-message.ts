import { Chunk, chunkIdOf, chunkQueue, decodeStates, type Envelope, headersOf, type Instant, isOpen } from '@millrace/core';
import type { Bytes } from './domain/chunk-buffers.ts';
import { CLAIM_BYTES } from './domain/chunk-builder.ts';
import type { DueChunk } from './plan-store.ts';

/**
 * The message of a chunk. The stored JSON of the items is put into the body as it is: an item is parsed by its
 * processor only, unless just some items of the chunk are to go. Items too big to travel stay in the plan, and the message
 * claims them.
 */
export function encodeChunk(chunk: DueChunk, at: Instant, buffers: Bytes = Buffer): Envelope {
  const head = {
    runId: chunk.runId,
    job: chunk.job,
    generation: chunk.generation,
    seq: chunk.seq,
    attempt: chunk.attempt,
    size: chunk.size,
    openedAt: chunk.openedAt,
    tickAt: chunk.nominal ?? chunk.openedAt,
    tick: chunk.tick,
    params: chunk.params,
    ...(chunk.emits > 1 ? { emits: chunk.emits } : {}),
  };
  const positions = chunk.outcomes === null ? undefined : openPositions(chunk.outcomes, chunk.size);
  const claim = chunk.payload === null || chunk.payload.length > CLAIM_BYTES;
  const items = claim ? '[]' : itemsAt(positions, chunk.payload);
  const bytes = typeof items === 'string' ? Buffer.from(items) : items;
  const text = JSON.stringify({ ...head, ...(claim && { claim }), ...(positions && { positions }) });
  return {
    id: `${chunkIdOf(chunk.runId, chunk.generation, chunk.seq)}/${chunk.attempt}`,
    subject: chunkQueue(chunk.job),
    headers: headersOf(Chunk.kind, Chunk.version, at, chunk.trace),
    body: buffers.concat([Buffer.from(`${text.slice(0, -1)},"items":`), bytes, Buffer.from('}')]),
  };
}

function openPositions(outcomes: string, size: number): number[] {
  return (decodeStates(outcomes, size) ?? []).flatMap((state, position) => (isOpen(state) ? [position] : []));
}

function itemsAt(positions: readonly number[] | undefined, payload: string | Buffer): string | Buffer {
  if (!positions) return payload;
  const items = JSON.parse(payload.toString()) as unknown[];
  return JSON.stringify(positions.map((position) => items[position]));
}
