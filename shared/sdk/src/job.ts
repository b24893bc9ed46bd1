import type { JobManifest, Milliseconds } from '@millrace/core';
import type { Checkpoint, Reject, Skip } from './outcome.ts';

/**
 * A job as the services see it: its manifest plus the user's code, with the types of items and effects erased.
 * `defineJob` makes it; nothing else should.
 */
export interface Job {
  readonly name: string;
  readonly manifest: JobManifest;
  /** Yields items, or `checkpoint(cursor)` at a place from which a restarted plan can go on. */
  items(ctx: ItemsContext): AsyncIterable<unknown> | Iterable<unknown>;
  /** What tells an item from the others of its run. Validated by the planner (MR1005). */
  key(item: unknown): unknown;
  /** An effect, a Skip, a Reject, or a promise of one of these. */
  process(item: unknown, ctx: ProcessContext): unknown;
  readonly sink: Sink;
  /** The parameters with defaults filled in. Throws MR1013. */
  parseParams(value: unknown): Record<string, unknown>;
}

/** A job that still knows the types of its items and effects; for tests. */
export interface DefinedJob<Item, Effect> extends Job {
  /** Never set: it carries the types. */
  readonly '~types'?: { readonly item: Item; readonly effect: Effect };
}

/** Which run this is. */
export interface TickInfo {
  /** The nominal instant as text, or `manual:<key>`. */
  readonly id: string;
  /** The nominal instant; for a manual run the instant given with `--at`, else when it was asked for. Never the wall clock. */
  readonly at: Date;
}

export interface ItemsContext<Params = unknown> {
  readonly tick: TickInfo;
  readonly params: Params;
  /** The cursor of the last checkpoint that was stored, when a plan is resumed; undefined at first. */
  readonly cursor: unknown;
  /** Yield the result: everything yielded before it is planned for good, and a restart continues with this cursor (JSON). */
  checkpoint(cursor: unknown): Checkpoint;
  /** Reads from the default database (`DATABASE_URL`, or the embedded one). */
  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<{ readonly rows: readonly Row[] }>;
  /** Aborts when the run is cancelled or the planner stops. */
  readonly signal: AbortSignal;
}

export interface ProcessContext<Params = unknown> {
  /** This item needs nothing done. Return it. Skips are counted by reason: keep the reasons few. */
  skip(reason: string): Skip;
  /** This item can never succeed: no retry. Return or throw it. */
  reject(reason: string): Reject;
  /** Aborts on timeout and cancellation: hand it to whatever the item waits for. */
  readonly signal: AbortSignal;
  /** Stable over attempts and redrives: the idempotency key for an outside API. */
  readonly itemId: string;
  /** 1 at first. */
  readonly attempt: number;
  readonly log: Log;
  readonly tick: TickInfo;
  readonly params: Params;
}

/** Structured log in pino's shape. */
export interface Log {
  debug(fields: object, message?: string): void;
  debug(message: string): void;
  info(fields: object, message?: string): void;
  info(message: string): void;
  warn(fields: object, message?: string): void;
  warn(message: string): void;
  error(fields: object, message?: string): void;
  error(message: string): void;
}

/** Where effects go: the only place of a job with side effects. */
// biome-ignore lint/suspicious/noExplicitAny: the services handle effects of every shape; `commit` checks the shape where the sink is given.
export type Sink<Effect = any> = PostgresSink<Effect> | FunctionSink<Effect>;

/** Effects and the record of their items are committed in one transaction: each effect is applied exactly once. */
// biome-ignore lint/suspicious/noExplicitAny: see Sink.
export interface PostgresSink<Effect = any> {
  readonly kind: 'postgres';
  readonly name: string;
  /** Undefined: the default database. */
  readonly pool: PoolLike | undefined;
  /** SQL that the processor runs once at start, before it takes work. Must be safe to repeat: `create table if not exists …`. */
  readonly setup: string | undefined;
  readonly write: (effects: readonly Effect[], tx: SinkTransaction) => unknown;
  /** `write` does nothing else than to add each effect as a row of this table. */
  readonly rows?: { readonly table: string; readonly columns: readonly string[] };
}

/** Any other sink. At least once: after a crash the same effects may be written again, under the same `effectIds`. */
// biome-ignore lint/suspicious/noExplicitAny: see Sink.
export interface FunctionSink<Effect = any> {
  readonly kind: 'function';
  readonly name: string;
  readonly write: (effects: readonly Effect[], ctx: FunctionSinkContext) => unknown;
}

export interface FunctionSinkContext {
  readonly runId: string;
  readonly job: string;
  readonly signal: AbortSignal;
  /** One per effect, in order; stable over attempts and redrives: idempotency keys for the receiver. */
  readonly effectIds: readonly string[];
}

/** The transaction that the effects share with the record of their items. Do not commit it. */
export interface SinkTransaction {
  query<Row = Record<string, unknown>>(
    sql: string,
    params?: readonly unknown[],
  ): Promise<{ readonly rows: readonly Row[]; readonly rowCount: number }>;
  /** COPY: the fastest way to add many rows. Values follow the columns; undefined and null are NULL; objects become json. */
  copy(table: string, columns: readonly string[], rows: readonly (readonly unknown[])[]): Promise<void>;
}

/** What a pool must offer; `pg.Pool` does. */
export interface PoolLike {
  connect(): Promise<PoolClientLike>;
}

export interface PoolClientLike {
  // biome-ignore lint/suspicious/noExplicitAny: pg's overloads differ between versions; the adapter reads rows and rowCount only.
  query(sql: string, params?: any[]): Promise<any>;
  release(error?: boolean | Error): void;
}

/** What an error may carry to say how it should be handled; `TransientError` and `PermanentError` do. */
export interface ErrorHints {
  readonly transient?: boolean;
  readonly retryAfter?: Milliseconds;
}

const JOB = Symbol.for('millrace.job');

/** True for what `defineJob(…).commit(…)` returned, whichever copy of this package made it. */
export function isJob(value: unknown): value is Job {
  return typeof value === 'object' && value !== null && (value as { [JOB]?: unknown })[JOB] === true;
}

export function markJob<Item, Effect>(job: Job): DefinedJob<Item, Effect> {
  Object.defineProperty(job, JOB, { value: true });
  return Object.freeze(job);
}
