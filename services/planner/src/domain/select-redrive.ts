import { type Counts, decodeStates, encodeStates, type ItemState, keysIn, noCounts, outcomeOf } from '@millrace/core';

/** What a redrive takes by default. Indeterminate items may have had their effect: they need an explicit wish. */
const REDRIVEN: readonly ItemState[] = ['x', 'r', 'c', 'e'];

/** What one generation knows of a chunk. */
export interface ChunkLayer {
  readonly seq: number;
  readonly size: number;
  readonly outcomes: string;
  /** {position: fingerprint} of the failing items. */
  readonly failures: Readonly<Record<string, string>> | null;
  /** JSON of the items; needed of generation 0 only, and only for a selection by keys. */
  readonly payload: string | null;
}

export interface Redriven {
  readonly chunks: readonly { readonly seq: number; readonly size: number; readonly outcomes: string }[];
  readonly items: number;
  /** The outcomes that the taken items had. */
  readonly replaced: Counts;
}

/**
 * The failing items that a redrive takes: one new chunk per touched chunk, in which the items that stay as they are have the
 * state '-'. `layers` are ordered by chunk, then by generation: the newest result of an item counts.
 */
export function selectRedrive(
  layers: readonly ChunkLayer[],
  selection: { readonly group: string | undefined; readonly keys: readonly string[] | undefined },
): Redriven {
  const replaced = noCounts();
  const chunks: { seq: number; size: number; outcomes: string }[] = [];
  let items = 0;
  for (const ofChunk of groupBySeq(layers)) {
    const { seq, size } = ofChunk[0] as ChunkLayer;
    const states = new Array<ItemState>(size).fill('-');
    const groups = new Array<string | undefined>(size);
    for (const layer of ofChunk) {
      for (const [position, state] of (decodeStates(layer.outcomes, size) ?? []).entries()) {
        if (state === '-') continue;
        states[position] = state;
        groups[position] = layer.failures?.[String(position)];
      }
    }
    const keys = selection.keys && keysIn(ofChunk[0]?.payload ?? '[]');
    const taken = states.map((state, position): ItemState => {
      const wanted =
        REDRIVEN.includes(state) &&
        (selection.group === undefined || groups[position] === selection.group) &&
        (selection.keys === undefined || selection.keys.includes(keys?.[position] ?? ''));
      if (!wanted) return '-';
      const outcome = outcomeOf(state);
      if (outcome) replaced[outcome]++;
      items++;
      return 'p';
    });
    if (taken.includes('p')) chunks.push({ seq, size, outcomes: encodeStates(taken) });
  }
  return { chunks, items, replaced };
}

function* groupBySeq(layers: readonly ChunkLayer[]): Generator<ChunkLayer[]> {
  let group: ChunkLayer[] = [];
  for (const layer of layers) {
    if (group[0] && group[0].seq !== layer.seq) {
      yield group;
      group = [];
    }
    group.push(layer);
  }
  if (group[0]) yield group;
}
