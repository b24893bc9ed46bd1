import { MillraceError } from '@millrace/core';
import type { PoolLike, PostgresSink, SinkTransaction } from './job.ts';

type Write<Effect> = (effects: readonly Effect[], tx: SinkTransaction) => unknown;

export interface PostgresOptions {
  /** Where to write. Default: the default database, `DATABASE_URL` or the embedded one. */
  readonly pool?: PoolLike;
  /** SQL that is run once when a processor starts, before it takes work. Must be safe to repeat: `create table if not exists …`. */
  readonly setup?: string;
  /** Stands in the ids of effects: a job's effects keep their ids only while this name stays. Default `postgres`. */
  readonly name?: string;
}

/**
 * Commits a batch of effects in one transaction with the record of their items: each effect is applied exactly once,
 * as long as everything it does goes through `tx`. When `write` throws for a batch, the batch is halved until the items
 * that break it are alone; those fail, the others are applied.
 *
 *     .commit(postgres((effects, tx) => tx.query(UPSERT, columns(effects))))
 */
export function postgres<Effect>(write: Write<Effect>): PostgresSink<Effect>;
export function postgres<Effect>(target: PoolLike | PostgresOptions, write: Write<Effect>): PostgresSink<Effect>;
export function postgres<Effect>(target: PoolLike | PostgresOptions | Write<Effect>, maybeWrite?: Write<Effect>): PostgresSink<Effect> {
  const write = typeof target === 'function' ? target : maybeWrite;
  if (typeof write !== 'function') throw new MillraceError('MR1004', 'postgres(…) needs a function (effects, tx) that writes the effects');
  const options: PostgresOptions = typeof target === 'function' ? {} : isPool(target) ? { pool: target } : target;
  for (const option of Object.keys(isPool(target as object) ? {} : options)) {
    if (!OPTIONS.has(option)) throw new MillraceError('MR1004', `unknown option "${option}" of postgres(…)`);
  }
  return { kind: 'postgres', name: options.name ?? 'postgres', pool: options.pool, setup: options.setup, write };
}

/**
 * Adds each effect as a row: the fastest way there is, since rows and record travel in one round trip as COPY. The fields named
 * `columns` become the columns of those names; an absent one becomes NULL, an object or array JSON. Plain inserts: a row that
 * breaks a constraint fails its item alone. To update rows that exist, write the statement yourself.
 *
 *     .commit(postgres.insert('balances', ['account', 'at', 'balance'], { setup: 'create table if not exists balances (…)' }))
 */
postgres.insert = <Effect extends object>(
  table: string,
  columns: readonly (keyof Effect & string)[],
  options: PostgresOptions = {},
): PostgresSink<Effect> => {
  if (typeof table !== 'string' || table === '' || !Array.isArray(columns) || columns.length === 0)
    throw new MillraceError('MR1004', 'postgres.insert(…) needs the name of a table and the names of its columns');
  const fields: readonly (keyof Effect & string)[] = columns;
  const values = (effect: Effect): unknown[] => fields.map((field) => effect[field]);
  const write: Write<Effect> = (effects, tx) => tx.copy(table, columns, effects.map(values));
  return { ...postgres<Effect>(options, write), rows: { table, columns: [...columns] } };
};

const OPTIONS = new Set(['pool', 'setup', 'name']);

function isPool(value: object): value is PoolLike {
  return typeof (value as { connect?: unknown }).connect === 'function';
}
