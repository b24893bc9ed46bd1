import {
  type ChunkSettled,
  type Counts,
  countStates,
  decodeStates,
  type Failure,
  isGood,
  isOpen,
  mergeStates,
  noCounts,
  OUTCOMES,
} from '@millrace/core';

/** A chunk as the ledger holds it. */
export interface ChunkRow {
  readonly runId: string;
  readonly generation: number;
  readonly seq: number;
  readonly size: number;
  readonly attempt: number;
  readonly outcomes: string;
}

export interface FailureRow extends Failure {
  readonly runId: string;
  readonly generation: number;
  readonly seq: number;
  readonly attempt: number;
  /** No further attempt is due. */
  readonly final: boolean;
  readonly at: number;
}

export interface Folded {
  /** Chunks that changed, with the fact that brought the latest attempt. */
  readonly chunks: readonly (ChunkRow & { readonly latest: ChunkSettled })[];
  /** What each generation's counts gained: final outcomes only, so an item moves them once. */
  readonly gained: readonly { readonly runId: string; readonly generation: number; readonly counts: Counts }[];
  readonly failures: readonly FailureRow[];
  /** Items that are good now, whatever was written about them before. */
  readonly recovered: readonly { readonly runId: string; readonly seq: number; readonly position: number }[];
}

export function chunkKey(chunk: { readonly runId: string; readonly generation: number; readonly seq: number }): string {
  return `${chunk.runId}/${chunk.generation}/${chunk.seq}`;
}

/**
 * Folds settled chunks into the rows there are. Pure, and a join per item: facts may come twice, late and in any order. What moves the
 * books is the difference between the merged row and the row before, so a fact that says nothing new moves nothing.
 */
export function foldChunks(known: ReadonlyMap<string, ChunkRow>, facts: readonly ChunkSettled[]): Folded {
  const rows = new Map<string, ChunkRow & { latest: ChunkSettled }>();
  for (const fact of facts) {
    const key = chunkKey(fact);
    const before = rows.get(key) ?? known.get(key);
    const outcomes = before ? mergeStates(before.outcomes, fact.outcomes, fact.size) : fact.outcomes;
    const newer = !before || fact.attempt >= before.attempt;
    const latest = newer ? fact : (rows.get(key)?.latest ?? fact);
    if (before && before.outcomes === outcomes && before.attempt >= fact.attempt) continue;
    rows.set(key, {
      runId: fact.runId,
      generation: fact.generation,
      seq: fact.seq,
      size: fact.size,
      attempt: Math.max(before?.attempt ?? 0, fact.attempt),
      outcomes,
      latest,
    });
  }

  const gained = new Map<string, { runId: string; generation: number; counts: Counts }>();
  const failures: FailureRow[] = [];
  const recovered: { runId: string; seq: number; position: number }[] = [];
  for (const [key, row] of rows) {
    const before = known.get(key);
    const generation = `${row.runId}/${row.generation}`;
    const gain = gained.get(generation) ?? { runId: row.runId, generation: row.generation, counts: noCounts() };
    addCounts(gain.counts, countStates(row.outcomes).counts, 1);
    if (before) addCounts(gain.counts, countStates(before.outcomes).counts, -1);
    gained.set(generation, gain);
    // A first pass without failures has nothing to recover and nothing to report: most chunks end here.
    if (row.latest.failures.length === 0 && row.attempt === 1 && row.generation === 0) continue;
    const states = decodeStates(row.outcomes, row.size) ?? [];
    for (const failure of row.latest.failures) {
      const state = states[failure.position];
      if (state === undefined || state === '-' || isGood(state)) continue;
      failures.push({
        ...failure,
        runId: row.runId,
        generation: row.generation,
        seq: row.seq,
        attempt: row.attempt,
        final: !isOpen(state),
        at: row.latest.settledAt,
      });
    }
    if (row.attempt > 1 || row.generation > 0) {
      states.forEach((state, position) => {
        if (isGood(state)) recovered.push({ runId: row.runId, seq: row.seq, position });
      });
    }
  }
  return { chunks: [...rows.values()], gained: [...gained.values()], failures, recovered };
}

export function addCounts(into: Counts, counts: Counts, sign: 1 | -1): void {
  for (const outcome of OUTCOMES) into[outcome] += sign * counts[outcome];
}

/** About how many of `chunks` hold as many of their `items`. */
export function chunksOf(missing: number, items: number, chunks: number): number {
  return Math.ceil((missing * chunks) / Math.max(1, items));
}
