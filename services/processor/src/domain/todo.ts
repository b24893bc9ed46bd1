import type { Chunk, ItemState } from '@millrace/core';

/** What the inbox knows of a chunk, as far as it decides what is left to do. */
export interface Known {
  readonly attempt: number;
  readonly states: readonly ItemState[];
}

/** Where the item at `index` of the message stands in its chunk. */
export function positionOf(chunk: Pick<Chunk, 'positions'>, index: number): number {
  return chunk.positions ? (chunk.positions[index] as number) : index;
}

/**
 * Indexes into `chunk.items` that this delivery has to run: items without a result, and items that failed in an
 * earlier attempt than this message's. Empty when the message is a duplicate.
 */
export function todoOf(chunk: Pick<Chunk, 'positions' | 'items' | 'attempt'>, known: Known | undefined): number[] {
  const todo: number[] = [];
  for (let i = 0; i < chunk.items.length; i++) if (!known || isTodo(known, positionOf(chunk, i), chunk.attempt)) todo.push(i);
  return todo;
}

export function isTodo(known: Known, position: number, attempt: number): boolean {
  const state = known.states[position];
  // '-' is no result either: a row may have been made by a message that carried other positions.
  return state === '-' || state === 'p' || (state === 'f' && attempt > known.attempt);
}

/** The places that this message is about. */
export function placesOf({ positions, size }: Pick<Chunk, 'positions' | 'size'>): readonly number[] {
  return positions ?? Array.from({ length: size }, (_, place) => place);
}

/** Why the message contradicts itself, or undefined. The schema cannot say these. */
export function contradictionIn(chunk: Pick<Chunk, 'positions' | 'items' | 'size' | 'claim'>): string | undefined {
  const { positions, size, claim } = chunk;
  if (claim && chunk.items.length > 0) return 'it claims its items and carries some';
  const items = claim ? { length: positions?.length ?? size } : chunk.items;
  if (!positions) return items.length === size ? undefined : `${items.length} items in a chunk of ${size} without positions`;
  if (positions.length !== items.length) return `${positions.length} positions for ${items.length} items`;
  for (let i = 0; i < positions.length; i++) {
    const position = positions[i] as number;
    if (position >= size) return `position ${position} in a chunk of ${size}`;
    if (i > 0 && position <= (positions[i - 1] as number)) return 'positions are not ascending';
  }
  return undefined;
}
