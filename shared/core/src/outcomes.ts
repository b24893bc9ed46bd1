/**
 * The state of one item in one generation, as one letter, and of a chunk's items as run-length text: `"120a3s377a"`.
 * A healthy chunk of 500 costs four characters and reads well in psql.
 *
 *   - not part of this generation (a redrive takes only some items of a chunk)
 *   p pending          f failed in this attempt, a retry is due
 *   c cancelled        e expired      i indeterminate     x failed for good     r rejected
 *   s skipped          d duplicate    a applied
 *
 * The order of the letters is the merge order: the later letter wins. Merging takes the maximum per item, so it is
 * commutative, associative and idempotent, whatever order and however often facts arrive.
 */
const ORDER = '-pfceixrsda';

export type ItemState = '-' | 'p' | 'f' | 'c' | 'e' | 'i' | 'x' | 'r' | 's' | 'd' | 'a';

/** Final outcomes, in the words users see. */
export const OUTCOMES = ['applied', 'skipped', 'duplicate', 'failed', 'rejected', 'cancelled', 'expired', 'indeterminate'] as const;
export type Outcome = (typeof OUTCOMES)[number];
export type Counts = Record<Outcome, number>;

const OUTCOME_OF: Partial<Record<ItemState, Outcome>> = {
  a: 'applied',
  s: 'skipped',
  d: 'duplicate',
  x: 'failed',
  r: 'rejected',
  c: 'cancelled',
  e: 'expired',
  i: 'indeterminate',
};

export function outcomeOf(state: ItemState): Outcome | undefined {
  return OUTCOME_OF[state];
}

/** Applied, skipped and duplicate items are done well; nothing ever takes that back. */
export function isGood(state: ItemState): boolean {
  return state === 'a' || state === 's' || state === 'd';
}

/** Pending and retryable items still owe an outcome. */
export function isOpen(state: ItemState): boolean {
  return state === 'p' || state === 'f';
}

export function encodeStates(states: readonly ItemState[]): string {
  let text = '';
  for (let start = 0; start < states.length; ) {
    let end = start + 1;
    while (end < states.length && states[end] === states[start]) end++;
    text += `${end - start}${states[start]}`;
    start = end;
  }
  return text;
}

/** The states, or undefined when the text is malformed or does not hold exactly `size` items. */
export function decodeStates(text: string, size: number): ItemState[] | undefined {
  const states: ItemState[] = [];
  const runs = /(\d{1,9})([-pfceixrsda])/gy;
  let at = 0;
  while (at < text.length) {
    const match = runs.exec(text);
    if (!match) return undefined;
    const count = Number(match[1]);
    if (count === 0 || states.length + count > size) return undefined;
    for (let i = 0; i < count; i++) states.push(match[2] as ItemState);
    at = runs.lastIndex;
  }
  return states.length === size ? states : undefined;
}

export function mergeState(a: ItemState, b: ItemState): ItemState {
  return ORDER.indexOf(a) >= ORDER.indexOf(b) ? a : b;
}

/** Merges two run-length texts of the same chunk. Throws when they do not describe `size` items: that is a bug. */
export function mergeStates(a: string, b: string, size: number): string {
  if (a === b) return a;
  const left = decodeStates(a, size);
  const right = decodeStates(b, size);
  if (!left || !right) throw new RangeError(`item states ${JSON.stringify(left ? b : a)} do not describe ${size} items`);
  return encodeStates(left.map((state, i) => mergeState(state, right[i] as ItemState)));
}

export function noCounts(): Counts {
  return { applied: 0, skipped: 0, duplicate: 0, failed: 0, rejected: 0, cancelled: 0, expired: 0, indeterminate: 0 };
}

/** How many items of each final outcome, and how many are still open. Works on the text: cost grows with its changes. */
export function countStates(text: string): { counts: Counts; open: number } {
  const counts = noCounts();
  let open = 0;
  for (const [, digits, letter] of text.matchAll(/(\d+)([-pfceixrsda])/g)) {
    const outcome = OUTCOME_OF[letter as ItemState];
    if (outcome) counts[outcome] += Number(digits);
    else if (letter !== '-') open += Number(digits);
  }
  return { counts, open };
}

export function sumCounts(counts: Counts): number {
  return OUTCOMES.reduce((sum, outcome) => sum + counts[outcome], 0);
}

export const VERDICTS = ['succeeded', 'partial', 'failed', 'cancelled', 'expired'] as const;
export type RunVerdict = (typeof VERDICTS)[number];

/** How much may go wrong before a run counts as failed. Within either limit the run is `partial`. Both default to 0. */
export interface Tolerance {
  readonly count: number;
  readonly percent: number;
}

/** The verdict of a closed run. */
export function verdictOf(counts: Counts, tolerate: Tolerance, planFailed: boolean): RunVerdict {
  if (planFailed) return 'failed';
  if (counts.cancelled > 0) return 'cancelled';
  const bad = counts.failed + counts.rejected + counts.expired + counts.indeterminate;
  if (bad === 0) return 'succeeded';
  const planned = sumCounts(counts);
  if (bad <= tolerate.count || bad * 100 <= tolerate.percent * planned) return 'partial';
  return counts.expired === bad ? 'expired' : 'failed';
}
