import type { ChunkSettled, Instant, JobManifest, Milliseconds, RunClosed, Trace } from '@millrace/core';
import type { BuiltChunk } from './domain/chunk-builder.ts';

/** The planner's durable state. Every method is one transaction; none holds one open while something else happens. */
export interface PlanStore {
  /** The database's clock: the only authority for "due". */
  now(): Promise<Instant>;
  /** Makes the job known. A new one starts deciding ticks after `startAfter`. */
  registerJob(manifest: JobManifest, startAfter: Instant): Promise<void>;

  /** Decides every tick of the job up to `until` and opens the runs that follow, each with the trace that `traceOf` gives it. */
  admitTicks(manifest: JobManifest, until: Instant, traceOf: (runId: string) => Trace): Promise<AdmittedTicks>;
  /** Opens a run unless it exists. */
  admitRun(run: NewRun): Promise<boolean>;
  /** Opens a run unless it exists, and takes it for planning: `admitRun` and `claimRun` in one. */
  admitClaimed(run: NewRun, lease: Milliseconds): Promise<PlanningRun | undefined>;

  /** Takes the oldest run that waits for planning, or whose planner has gone, and fences out any earlier holder. */
  claimRun(jobs: readonly string[], lease: Milliseconds): Promise<PlanningRun | undefined>;
  /**
   * Stores chunks and moves the cursor. The first of them, as many as leave at most `window` chunks of the run with the broker, count as
   * sent: sending them is up to the caller. Returns how many; undefined when another planner has taken the run: stop.
   * The payloads may be overwritten once this has resolved.
   */
  appendChunks(run: PlanningRun, chunks: readonly BuiltChunk[], progress: PlanProgress, window: number): Promise<number | undefined>;
  /** Holds on to the run for another `lease`. False when another planner has taken it. */
  renewLease(run: PlanningRun, lease: Milliseconds): Promise<boolean>;
  /** Forgets every chunk and the cursor of a run that is spooled: it is planned anew. False when another planner has taken it. */
  discardPlan(run: PlanningRun): Promise<boolean>;
  /** Ends planning, well or not; its facts are owed in the same transaction. */
  seal(run: PlanningRun, facts: readonly OwedFact[], duplicates: number, failure?: { code: string; message: string }): Promise<boolean>;
  /** Gives the run back to be planned again after a pause; `failed`: its source did, which is counted. */
  postponePlanning(run: PlanningRun, pause: Milliseconds, failed?: boolean): Promise<void>;
  /** Lets other planners take over runs at once. Only for a process that knows it is the only one. */
  expireLeases(): Promise<void>;
  /** Keys that the run has stored, chunk by chunk. */
  storedKeys(runId: string, fromSeq: number, chunks: number): Promise<readonly { seq: number; keys: readonly string[] }[]>;

  /**
   * Claims chunks that are due, at most `window` of a run in the broker at once, and marks them emitted. All runs that
   * have something to send share the limit: a long one never starves the others.
   */
  claimChunks(claim: ChunkClaim): Promise<readonly DueChunk[]>;
  /**
   * The broker has them. Until then a claim only lasts for a while: see `releaseUnconfirmed`. What has settled meanwhile, or was put back and
   * sent once more, stays as it is.
   */
  confirmChunks(chunks: readonly SentChunk[]): Promise<void>;
  /** Puts chunks back that somebody claimed a while ago and did not get confirmed: he may have died in between. Returns their number. */
  releaseUnconfirmed(jobs: readonly string[]): Promise<number>;
  /** Puts chunks back that could not be published. */
  releaseChunks(chunks: readonly ChunkId[]): Promise<void>;
  /** What waits of these jobs, after a claim that got nothing. */
  waiting(jobs: readonly string[]): Promise<Waiting>;

  /** Folds settled chunks; those that are to be sent again get their due time. Idempotent. */
  settleChunks(settled: readonly (ChunkSettled & { next: NextSending | undefined })[]): Promise<void>;
  /**
   * Closes the run and opens what waits behind it, in the same transaction: the oldest waiting run of its job, and those of
   * `dependents` whose dependencies are all met. Returns the ids of the dependents that it opened; `behind` when chunks of the
   * run have not settled here yet: a redrive would not know of their failures.
   */
  closeRun(closed: RunClosed, dependents: readonly NewRun[]): Promise<readonly string[] | 'behind'>;

  /** Opens the next generation over failing items. `old`: the run is older than `maxAge`, or its plan is being deleted. */
  redrive(request: RedriveRequest): Promise<'opened' | 'known' | 'open' | 'unknown' | 'empty' | 'old'>;
  /**
   * Deletes a part of what belongs to runs closed longer ago than `retention`, at most `limit` rows at once: `more` as long as
   * there is any. The run itself goes a day later; until then its `purged_at` says that its plan is no longer complete.
   */
  purge(retention: Milliseconds, limit: number): Promise<'more' | 'done'>;

  /**
   * Makes everything emitted of this job due again: its queue has been lost. Returns the number of chunks. They count as sent
   * once, however often that happens: in embedded mode an item may have ended the process, and the queue with it.
   */
  resetEmitted(job: string): Promise<number>;
  /**
   * Makes up to `most` emitted chunks due again, oldest first, that were sent `idle` ago to a run without any progress since then; leaves
   * those alone that were sent more than `limit` times, and counts them as stalled.
   */
  resetStalled(job: string, idle: Milliseconds, limit: number, most: number): Promise<{ reset: number; stalled: number }>;

  /**
   * Runs that are settled but were not closed for `idle`: somebody has lost facts. Their facts are owed again and their chunks
   * due again; processors answer from the inbox without doing anything twice. The pause doubles each time that it was in vain,
   * so that an audit that is away for hours is not flooded. With 0 every running run is told again.
   */
  tellAgain(jobs: readonly string[], idle: Milliseconds): Promise<readonly string[]>;

  owedFacts(limit: number): Promise<readonly { runId: string; facts: readonly OwedFact[]; trace: Trace }[]>;
  /** Seconds since the oldest run that is not closed was opened, by job. */
  oldestOpen(): Promise<ReadonlyMap<string, number>>;
  /** The first `told` facts of a run are with the stream. Where it has more by now, a redrive has added some: those are still owed. */
  clearOwed(runId: string, told: number): Promise<void>;
}

export interface Waiting {
  /** Milliseconds until the next chunk is due; undefined when none will be. */
  readonly due: Milliseconds | undefined;
  /** Chunks are due: the windows of their runs are full, or retries have to wait for first attempts. */
  readonly held: boolean;
}

export interface AdmittedTicks {
  /** Ids of the runs that were opened. */
  readonly opened: readonly string[];
  /** What became of the ticks that were decided. */
  readonly decided: { readonly ran: number; readonly skipped: number; readonly missed: number };
  /** How long after its nominal instant the latest tick that ran was admitted; undefined when none ran. */
  readonly lag: Milliseconds | undefined;
}

export interface NewRun {
  readonly runId: string;
  readonly tick: string;
  readonly nominal: Instant | null;
  readonly cause: 'tick' | 'trigger' | 'after';
  readonly manifest: JobManifest;
  readonly params: Record<string, unknown>;
  readonly limit: number | undefined;
  readonly trace: Trace;
}

/** Items of a settled chunk are open: when it is sent again, and as which attempt. */
export interface NextSending {
  readonly in: Milliseconds;
  readonly attempt: number;
}

/** A run in the hands of one planner; `epoch` proves it. */
export interface PlanningRun {
  readonly runId: string;
  readonly job: string;
  readonly tick: string;
  readonly nominal: Instant | null;
  readonly cause: 'tick' | 'trigger' | 'after';
  readonly params: Record<string, unknown>;
  readonly limit: number | undefined;
  readonly manifest: JobManifest;
  readonly openedAt: Instant;
  readonly trace: Trace;
  readonly epoch: number;
  readonly cursor: unknown;
  readonly nextSeq: number;
  readonly items: number;
  readonly duplicates: number;
  /** How often its source has failed. */
  readonly failures: number;
}

export interface PlanProgress {
  readonly cursor: unknown;
  readonly items: number;
  readonly duplicates: number;
}

export interface ChunkClaim {
  readonly jobs: readonly string[];
  readonly window: number;
  readonly limit: number;
  /** First attempts (of any generation), in the order of the plan; or retries, in the order in which they are due. */
  readonly kind: 'first' | 'retry';
  /** Jobs whose retries wait as long as the run has a first attempt that is due. */
  readonly throttled: readonly string[];
}

export interface ChunkId {
  readonly runId: string;
  readonly generation: number;
  readonly seq: number;
}

export interface SentChunk extends ChunkId {
  readonly attempt: number;
  /** How often this attempt has been sent, this time included. */
  readonly emits: number;
}

export interface DueChunk extends SentChunk {
  readonly job: string;
  readonly tick: string;
  readonly nominal: Instant | null;
  readonly params: Record<string, unknown>;
  readonly openedAt: Instant;
  readonly size: number;
  /** Item states as last settled; null when all items of the chunk are to go. */
  readonly outcomes: string | null;
  /** JSON, in UTF-8 when it is bytes. Null: too big to travel, the message claims it. */
  readonly payload: string | Buffer | null;
  readonly trace: Trace;
}

export interface RedriveRequest {
  readonly runId: string;
  readonly generation: number;
  readonly group: string | undefined;
  readonly keys: readonly string[] | undefined;
  /** Milliseconds since the run was opened. */
  readonly maxAge: Milliseconds;
  readonly trace: Trace;
}

/** A fact that a run's row owes to the stream until it is confirmed. */
export type OwedFact = { readonly kind: 'run.opened' | 'run.planned' | 'run.plan_failed'; readonly data: Record<string, unknown> };
