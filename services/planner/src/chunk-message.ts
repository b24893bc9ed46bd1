import { Chunk, chunkIdOf, chunkQueue, decodeStates, type Envelope, headersOf, type Instant, isOpen } from '@millrace/core';
import type { DueChunk } from './plan-store.ts';

const encoder = new TextEncoder();

/**
 * The message of a chunk. The stored JSON of the items is put into the body as it is: an item is parsed by its
 * processor only, unless just some items of the chunk are to go.
 */
export function encodeChunk(chunk: DueChunk, at: Instant): Envelope {
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
  const part = chunk.outcomes === null ? undefined : openItems(chunk.outcomes, chunk.size, chunk.payload);
  const text = JSON.stringify(part ? { ...head, positions: part.positions } : head);
  return {
    id: `${chunkIdOf(chunk.runId, chunk.generation, chunk.seq)}/${chunk.attempt}`,
    subject: chunkQueue(chunk.job),
    headers: headersOf(Chunk.kind, Chunk.version, at, chunk.trace),
    body: encoder.encode(`${text.slice(0, -1)},"items":${part ? JSON.stringify(part.items) : chunk.payload}}`),
  };
}

function openItems(outcomes: string, size: number, payload: string): { positions: number[]; items: unknown[] } {
  const states = decodeStates(outcomes, size) ?? [];
  const items = JSON.parse(payload) as unknown[];
  const positions = states.flatMap((state, position) => (isOpen(state) ? [position] : []));
  return { positions, items: positions.map((position) => items[position]) };
}
