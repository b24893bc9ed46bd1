import { type Chunk, decodeStates, encodeStates, type Failure, formatInstant, type Milliseconds, MillraceError } from '@millrace/core';
import { type Database, jsonb, type Queryable, type Result, type Transaction } from '@millrace/postgres';
import type { SinkTransaction } from 'millrace';
import type { Settled } from '../domain/results.ts';
import type { Effect, Entry, Inbox, InboxRow, InboxTransaction, Table, Timing } from '../inbox.ts';

/** What the inbox needs of a database. */
export type InboxDatabase = Pick<Database, 'query' | 'transaction'> & Partial<Pick<Database, 'queryAndCopy'>>;

const COLUMNS = 'attempt, size, outcomes, failures, skips, retry_after, queued_ms, process_ms, commit_ms, settled_at';
const WHERE = 'where run_id = $1 and generation = $2 and seq = $3';
const FIND = `select ${COLUMNS} from millrace.inbox ${WHERE}`;
const LOCK = `${FIND} for update`;
const BEHIND_FENCE = (openedAt: string) =>
  `exists (select 1 from millrace.inbox_fence where purged_before > to_timestamp(${openedAt}::float8 / 1000))`;
const INSERT_COLUMNS =
  'run_id, generation, seq, attempt, outcomes, failures, skips, retry_after, queued_ms, process_ms, commit_ms, job, size';
const INSERT = `insert into millrace.inbox (${INSERT_COLUMNS})
select $1::text, $2::integer, $3::integer, $4::integer, $5::text, $6::jsonb, $7::jsonb, $8::integer, $9::integer, $10::integer, $11::integer, $12::text, $13::integer
where not ${BEHIND_FENCE('$14')} on conflict do nothing returning settled_at`;
/** Behind the fence it divides by zero: what follows in the same transaction must fail with it. */
const INSERT_OR_FAIL = `insert into millrace.inbox (${INSERT_COLUMNS})
select run_id, generation, seq, attempt, outcomes, failures::jsonb, skips::jsonb, retry_after, queued_ms, process_ms, commit_ms, job,
  size / (not ${BEHIND_FENCE('opened_at')})::integer
from json_to_recordset($1::json) as u (run_id text, generation integer, seq integer, attempt integer, outcomes text, failures text, skips text,
  retry_after integer, queued_ms integer, process_ms integer, commit_ms integer, job text, size integer, opened_at float8)
returning settled_at`;
const FENCE = `insert into millrace.inbox_fence as f (purged_before) values (now() - $1::float8 * interval '1 millisecond')
on conflict (id) do update set purged_before = greatest(f.purged_before, excluded.purged_before)`;
/** Rows are settled after their run was opened. Without a fence nothing is older than it: nothing can be purged before the fence stands. */
const PURGE = `delete from millrace.inbox where ctid = any(array(
select ctid from millrace.inbox where settled_at < (select purged_before from millrace.inbox_fence) limit ${5_000}))`;
const UPDATE = `update millrace.inbox set attempt = $4, outcomes = $5, failures = $6::jsonb, skips = $7::jsonb, retry_after = $8,
queued_ms = $9, process_ms = $10, commit_ms = $11, settled_at = now() ${WHERE} returning settled_at`;

export class PostgresInbox implements Inbox {
  readonly #database: InboxDatabase;

  constructor(database: InboxDatabase) {
    this.#database = database;
  }

  find(chunk: Chunk): Promise<InboxRow | undefined> {
    return findRow(this.#database, FIND, chunk);
  }

  /** Deletes what is older than `retention`, and refuses late duplicates of it from now on, whoever brings them. Returns the number of rows. */
  async purge(retention: Milliseconds): Promise<number> {
    await this.#database.query(FENCE, [retention]);
    for (let purged = 0; ; ) {
      const { rowCount } = await this.#database.query(PURGE);
      if (rowCount === 0) return purged;
      purged += rowCount;
    }
  }

  transaction<T>(work: (tx: InboxTransaction) => Promise<T>): Promise<T> {
    return this.#database.transaction((tx) => work(new PostgresInboxTransaction(tx)));
  }

  /** A row that is there fails the insert, and with it everything: no effect is written twice. */
  insertWithRows(entries: readonly Entry[], { table, columns }: Table): Promise<readonly InboxRow[]> | undefined {
    return this.#database
      .queryAndCopy?.<{ settled_at: Date | string }>(
        INSERT_OR_FAIL,
        [JSON.stringify(entries.map(recordOf))],
        table,
        columns,
        // Not flatMap, which calls for each chunk and then copies one by one: three times as long.
        ([] as Effect[]).concat(...entries.map(({ effects }) => effects)),
      )
      .then(({ rows }) => {
        // All of one transaction are settled at the same instant.
        const settledAt = instantOf(rows[0]?.settled_at ?? '');
        return entries.map(({ chunk, settled, timing }) => ({ ...settled, size: chunk.size, timing, settledAt }));
      });
  }
}

class PostgresInboxTransaction implements InboxTransaction {
  readonly #tx: Transaction;

  constructor(tx: Transaction) {
    this.#tx = tx;
  }

  lock(chunk: Chunk): Promise<InboxRow | undefined> {
    return findRow(this.#tx, LOCK, chunk);
  }

  async insert(chunk: Chunk, settled: Settled, timing: Timing): Promise<InboxRow | undefined> {
    const { rows } = await this.#tx.query<{ settled_at: Date | string }>(INSERT, [
      ...valuesOf(chunk, settled, timing),
      chunk.job,
      chunk.size,
      chunk.openedAt,
    ]);
    if (!rows[0] && (await this.#isPurged(chunk)))
      throw new MillraceError('MR4004', `the inbox has been purged beyond run ${chunk.runId}, opened ${formatInstant(chunk.openedAt)}`);
    return rows[0] && { ...settled, size: chunk.size, timing, settledAt: instantOf(rows[0].settled_at) };
  }

  async #isPurged({ openedAt }: Chunk): Promise<boolean> {
    const { rows } = await this.#tx.query<{ purged: boolean }>(`select ${BEHIND_FENCE('$1')} as purged`, [openedAt]);
    return rows[0]?.purged === true;
  }

  async update(chunk: Chunk, settled: Settled, timing: Timing): Promise<InboxRow> {
    const { rows } = await this.#tx.query<{ settled_at: Date | string }>(UPDATE, valuesOf(chunk, settled, timing));
    if (!rows[0])
      throw new MillraceError('MR3012', `inbox row ${chunk.runId}/${chunk.generation}/${chunk.seq} is gone while it was locked`);
    return { ...settled, size: chunk.size, timing, settledAt: instantOf(rows[0].settled_at) };
  }

  async effects(write: (tx: SinkTransaction) => unknown): Promise<void> {
    const tx = new WatchedTransaction(this.#tx);
    await write(tx);
    await tx.sound();
  }

  async savepoint(write: (tx: SinkTransaction) => unknown): Promise<void> {
    await this.#tx.query('savepoint millrace_slice');
    try {
      // Deferred constraints would else be checked at COMMIT, when nobody can tell any more whose row it was.
      await this.#tx.query('set constraints all immediate');
      await this.effects(write);
    } catch (error) {
      await this.#tx.query('rollback to savepoint millrace_slice');
      throw error;
    }
    await this.#tx.query('release savepoint millrace_slice');
  }
}

/**
 * Hands on what user code asks for, and remembers what it may have overlooked. After a failed statement PostgreSQL
 * turns COMMIT into ROLLBACK without an error, so a swallowed one would lose the effects in silence.
 */
class WatchedTransaction implements SinkTransaction {
  readonly #tx: Transaction;
  readonly #pending = new Set<Promise<unknown>>();
  #failed = false;
  #error: unknown;

  constructor(tx: Transaction) {
    this.#tx = tx;
  }

  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Result<Row>> {
    return this.#watch(this.#tx.query<Row>(sql, params));
  }

  copy(table: string, columns: readonly string[], rows: readonly (readonly unknown[])[]): Promise<void> {
    return this.#watch(this.#tx.copy(table, columns, rows));
  }

  #watch<T>(promise: Promise<T>): Promise<T> {
    this.#pending.add(promise);
    promise.then(
      () => this.#pending.delete(promise),
      (error: unknown) => {
        this.#pending.delete(promise);
        if (!this.#failed) this.#error = error;
        this.#failed = true;
      },
    );
    return promise;
  }

  async sound(): Promise<void> {
    // Statements that nobody awaited belong to the transaction too.
    if (this.#pending.size > 0) await Promise.allSettled(this.#pending);
    if (!this.#failed) return;
    try {
      await this.#tx.query('select 1');
    } catch {
      throw this.#error;
    }
  }
}

async function findRow(database: Queryable, sql: string, chunk: Chunk): Promise<InboxRow | undefined> {
  const { rows } = await database.query<StoredRow>(sql, [chunk.runId, chunk.generation, chunk.seq]);
  const row = rows[0];
  if (!row) return undefined;
  const states = decodeStates(row.outcomes, row.size);
  if (!states || row.size !== chunk.size)
    throw new MillraceError(
      'MR4003',
      `inbox row ${chunk.runId}/${chunk.generation}/${chunk.seq} holds ${row.outcomes} for ${row.size} items, the chunk has ${chunk.size}`,
    );
  return {
    attempt: row.attempt,
    size: row.size,
    states,
    failures: row.failures,
    skips: row.skips,
    retryAfter: row.retry_after ?? undefined,
    timing: { queued: row.queued_ms, process: row.process_ms, commit: row.commit_ms },
    settledAt: instantOf(row.settled_at),
  };
}

interface StoredRow {
  readonly attempt: number;
  readonly size: number;
  readonly outcomes: string;
  readonly failures: Failure[];
  readonly skips: Record<string, number>;
  readonly retry_after: number | null;
  readonly queued_ms: number;
  readonly process_ms: number;
  readonly commit_ms: number;
  readonly settled_at: Date | string;
}

const INT_MAX = 2_147_483_647;

function valuesOf(chunk: Chunk, settled: Settled, timing: Timing): unknown[] {
  return [
    chunk.runId,
    chunk.generation,
    chunk.seq,
    settled.attempt,
    encodeStates(settled.states),
    jsonb(settled.failures),
    jsonb(settled.skips),
    settled.retryAfter === undefined ? null : whole(settled.retryAfter),
    whole(timing.queued),
    whole(timing.process),
    whole(timing.commit),
  ];
}

/** By column, and the instant that the fence is compared with. */
function recordOf({ chunk, settled, timing }: Entry): Record<string, unknown> {
  const values = [...valuesOf(chunk, settled, timing), chunk.job, chunk.size];
  return { ...Object.fromEntries(INSERT_COLUMNS.split(', ').map((column, i) => [column, values[i]])), opened_at: chunk.openedAt };
}

function whole(milliseconds: number): number {
  return Math.min(INT_MAX, Math.max(0, Math.round(milliseconds)));
}

function instantOf(value: Date | string): number {
  return value instanceof Date ? value.getTime() : new Date(value).getTime();
}
