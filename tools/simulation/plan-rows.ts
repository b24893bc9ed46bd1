import type { Counts, Instant, Trace } from '@millrace/core';
import type { NewRun, OwedFact, PlanningRun } from '../../services/planner/src/plan-store.ts';

export interface TickRow {
  readonly nominal: Instant;
  readonly through: Instant;
  readonly ticks: number;
  result: 'ran' | 'skipped' | 'missed';
}

export interface RunRow extends Omit<NewRun, 'trace'> {
  trace: Trace;
  readonly job: string;
  state: 'waiting' | 'opened' | 'planning' | 'running' | 'closed';
  generation: number;
  openedAt: Instant;
  verdict: string | null;
  epoch: number;
  leaseUntil: Instant | undefined;
  cursor: unknown;
  nextSeq: number;
  items: number;
  duplicates: number;
  /** How often its source has failed. */
  failures: number;
  sealed: boolean;
  progressAt: Instant;
  /** How often it was told again in vain. */
  told: number;
  facts: readonly OwedFact[];
  owed: boolean;
  readonly chunks: ChunkRow[];
}

export interface ChunkRow {
  readonly generation: number;
  readonly seq: number;
  readonly size: number;
  readonly payload: string | undefined;
  state: 'ready' | 'emitted' | 'settled';
  attempt: number;
  dueAt: Instant;
  emittedAt: Instant | undefined;
  emits: number;
  outcomes: string | undefined;
  failures: Record<string, string> | undefined;
}

/** A row as it is inserted. */
export function newRun(run: NewRun, state: 'opened' | 'waiting', now: Instant): RunRow {
  return {
    ...run,
    job: run.manifest.name,
    state,
    generation: 0,
    openedAt: now,
    verdict: null,
    epoch: 0,
    leaseUntil: undefined,
    cursor: undefined,
    nextSeq: 0,
    items: 0,
    duplicates: 0,
    failures: 0,
    sealed: false,
    progressAt: now,
    told: 0,
    facts: [],
    owed: false,
    chunks: [],
  };
}

/** What a planner is told of the run that it has claimed. */
export function planningOf(run: RunRow): PlanningRun {
  const { state, generation, verdict, leaseUntil, sealed, progressAt, told, facts, owed, chunks, ...planning } = run;
  return planning;
}

/** A chunk that waits for its first sending. */
export function newChunk(chunk: Pick<ChunkRow, 'generation' | 'seq' | 'size' | 'payload'>, dueAt: Instant): ChunkRow {
  return {
    ...chunk,
    state: 'ready',
    attempt: 1,
    dueAt,
    emittedAt: undefined,
    emits: 0,
    outcomes: undefined,
    failures: undefined,
  };
}

/** What is told of a redrive once it is planned. */
export function redriveFacts(
  run: RunRow,
  plan: { readonly generation: number; readonly chunks: number; readonly items: number; readonly replaced: Counts },
  now: Instant,
): OwedFact[] {
  const { runId, job, tick, nominal, params } = run;
  const { generation, chunks, items, replaced } = plan;
  const manifest = run.manifest.run;
  return [
    { kind: 'run.opened', data: { runId, job, generation, tick, nominal, cause: 'redrive', openedAt: now, manifest, params } },
    { kind: 'run.planned', data: { runId, job, generation, chunks, items, duplicates: 0, plannedAt: now, replaced } },
  ];
}
