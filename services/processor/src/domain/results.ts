import { type Chunk, type ChunkItem, type Failure, type ItemState, keyOf } from '@millrace/core';
import { type Blame, isTransient } from './classify-error.ts';
import { fingerprintOf } from './fingerprint.ts';
import { positionOf } from './todo.ts';

/**
 * What running items gave, one entry per index into the message's items; indexes that were not run have no state.
 * Failures and skips are few, so they live in maps and a healthy item costs two array slots.
 */
export interface Results {
  readonly todo: readonly number[];
  readonly states: (ItemResult['state'] | undefined)[];
  readonly effects: unknown[];
  readonly blames: Map<number, Blame>;
  readonly skipReasons: Map<number, string>;
  /** The longest that one item has kept the event loop, in milliseconds. */
  slowest: number;
}

export function noResults(todo: readonly number[], items: number): Results {
  return { todo, states: new Array(items), effects: new Array(items), blames: new Map(), skipReasons: new Map(), slowest: 0 };
}

/** The result of one item as plain data, for the way between processes. */
export type ItemResult =
  | { readonly state: 'a'; readonly effect: unknown }
  | { readonly state: 's'; readonly reason: string }
  | { readonly state: 'f' | 'x' | 'r'; readonly blame: Blame };

export function takeResult(results: Results, index: number): ItemResult | undefined {
  const state = results.states[index];
  if (state === undefined) return undefined;
  if (state === 'a') return { state, effect: results.effects[index] };
  if (state === 's') return { state, reason: results.skipReasons.get(index) ?? '' };
  return { state, blame: results.blames.get(index) as Blame };
}

export function putResult(results: Results, index: number, result: ItemResult): void {
  results.states[index] = result.state;
  if (result.state === 'a') results.effects[index] = result.effect;
  else if (result.state === 's') results.skipReasons.set(index, result.reason);
  else results.blames.set(index, result.blame);
}

/** A copy whose failures can be changed, while a transaction that may be tried again finds out which effects are refused. */
export function copyResults(results: Results): Results {
  return { ...results, states: results.states.slice(), blames: new Map(results.blames) };
}

/** A transient failure stays open while attempts are left; the rest is final. */
export function stateAfter(blame: Pick<Blame, 'class'>, attempt: number, attempts: number): 'f' | 'x' | 'r' {
  if (blame.class === 'rejected' || blame.class === 'poisoned') return 'r';
  return isTransient(blame) && attempt < attempts ? 'f' : 'x';
}

export function fail(results: Results, index: number, blame: Blame, attempt: number, attempts: number): void {
  results.states[index] = stateAfter(blame, attempt, attempts);
  results.blames.set(index, blame);
}

/** The part of an inbox row that says what became of the items. */
export interface Settled {
  readonly attempt: number;
  readonly states: readonly ItemState[];
  readonly failures: readonly Failure[];
  readonly skips: Readonly<Record<string, number>>;
  readonly retryAfter: number | undefined;
}

/**
 * Puts the results of the items at `indexes` over what was known before; other items keep what they have. An item without
 * a result is pending, also when it had failed before: it has spent no attempt.
 */
export function mergeResults(chunk: Chunk, before: Settled | undefined, results: Results, indexes: readonly number[]): Settled {
  const states: ItemState[] = before ? before.states.slice() : new Array<ItemState>(chunk.size).fill('-');
  const touched = new Set<number>();
  const failures: Failure[] = [];
  const skips: Record<string, number> = before ? { ...before.skips } : {};
  let retryAfter: number | undefined;
  for (const index of indexes) {
    const position = positionOf(chunk, index);
    states[position] = results.states[index] ?? 'p';
    if (before) touched.add(position);
    const reason = results.skipReasons.get(index);
    if (reason !== undefined) skips[reason] = (Object.hasOwn(skips, reason) ? (skips[reason] as number) : 0) + 1;
    const blame = results.blames.get(index);
    if (!blame) continue;
    const key = keyOf(chunk.items[index] as ChunkItem);
    failures.push({ position, key, ...fingerprintOf(chunk.job, blame.class, blame.message), message: blame.message, class: blame.class });
    if (blame.retryAfter !== undefined) retryAfter = Math.max(retryAfter ?? 0, blame.retryAfter);
  }
  if (before) {
    for (const failure of before.failures) if (!touched.has(failure.position)) failures.push(failure);
    failures.sort((a, b) => a.position - b.position);
    if (before.attempt >= chunk.attempt && before.retryAfter !== undefined) retryAfter = Math.max(retryAfter ?? 0, before.retryAfter);
  }
  return { attempt: Math.max(before?.attempt ?? 0, chunk.attempt), states, failures, skips, retryAfter };
}
