import type { Counts, Instant, RunVerdict, Trace } from '@millrace/core';

/** What the console reads of the ledger. The audit writes it; nothing here changes it. */
export interface Ledger {
  /** Newest first. `after` is the run id that ended the page before. */
  listRuns(filter: {
    readonly job?: string;
    readonly state?: RunState;
    readonly limit: number;
    readonly after?: string;
  }): Promise<readonly LedgerRun[]>;
  findRun(runId: string): Promise<LedgerRun | undefined>;
  /** What a live view shows: the newest runs, every open one, and those in `also`. */
  liveRuns(newest: number, also: readonly string[]): Promise<readonly LedgerRun[]>;
  /** Largest group first. */
  failureGroups(runId: string, limit: number): Promise<readonly FailureGroup[]>;
  /** In the order of the plan. `after` is the `cursor` of the last row of the page before. */
  listFailures(
    runId: string,
    filter: { readonly group?: string; readonly limit: number; readonly after?: string },
  ): Promise<readonly FailedItem[]>;
  /** Failing items in a group, or with these keys. */
  countFailures(runId: string, selection: { readonly group?: string; readonly keys?: readonly string[] }): Promise<number>;
  /** Rejects when the ledger cannot be read. */
  ping(): Promise<void>;
}

export const RUN_STATES = ['planning', 'running', 'closed'] as const;
export type RunState = (typeof RUN_STATES)[number];

export interface LedgerRun {
  readonly runId: string;
  readonly job: string;
  readonly tick: string;
  readonly cause: string;
  readonly params: unknown;
  readonly state: RunState;
  readonly verdict: RunVerdict | null;
  readonly generation: number;
  readonly openedAt: Instant;
  readonly closedAt: Instant | null;
  /** When the current generation began, and how many items it took; equal to the run's own in generation 0. */
  readonly passOpenedAt: Instant;
  readonly passItems: number | null;
  readonly planError: { readonly code: string; readonly message: string } | null;
  readonly planned: number;
  readonly counts: Counts;
  readonly trace: Trace;
}

export interface FailureGroup {
  readonly fingerprint: string;
  readonly title: string;
  readonly class: string;
  readonly count: number;
}

export interface FailedItem {
  readonly cursor: string;
  readonly key: string;
  readonly fingerprint: string;
  readonly class: string;
  readonly title: string;
  readonly message: string;
  readonly generation: number;
  readonly attempt: number;
  /** False while another attempt is due. */
  readonly final: boolean;
  readonly at: Instant;
}
