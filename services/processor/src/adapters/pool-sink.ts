import { MillraceError, messageOf, type Time } from '@millrace/core';
import type { Result, Transaction } from '@millrace/postgres';
import type { PoolClientLike, PoolLike } from 'millrace';
import { isRetryableSql, sqlStateOf } from '../domain/classify-error.ts';
import type { InboxDatabase } from './postgres-inbox.ts';

const TRIES = 5;
const LONGEST_PAUSE_MS = 200;

/** A user's own pool as the database of a sink: the inbox row is written beside the effects, wherever they live. */
export class PoolDatabase implements InboxDatabase {
  readonly #pool: PoolLike;
  readonly #time: Time;
  readonly #random: () => number;

  constructor(pool: PoolLike, time: Time, random: () => number) {
    this.#pool = pool;
    this.#time = time;
    this.#random = random;
    overhear(pool);
  }

  async query<Row>(sql: string, params?: readonly unknown[]): Promise<Result<Row>> {
    const client = await this.#connect();
    try {
      const result = await ask<Row>(client, sql, params);
      client.release();
      return result;
    } catch (error) {
      release(client, error);
      throw error;
    }
  }

  async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#once(work);
      } catch (error) {
        if (!isRetryableSql(error) || tries >= TRIES) throw error;
        await this.#time.sleep(this.#random() * LONGEST_PAUSE_MS);
      }
    }
  }

  async #once<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const client = await this.#connect();
    let committing = false;
    try {
      await client.query('begin');
      const value = await work(new PoolTransaction(client));
      committing = true;
      await client.query('commit');
      client.release();
      return value;
    } catch (error) {
      if (committing && sqlStateOf(error) === undefined && error instanceof Error) Object.assign(error, { commitUnknown: true });
      const undone = await client.query('rollback').then(
        () => true,
        () => false,
      );
      if (undone) client.release();
      else release(client, error, true);
      throw error;
    }
  }

  async #connect(): Promise<PoolClientLike> {
    try {
      const client = await this.#pool.connect();
      overhear(client);
      return client;
    } catch (error) {
      const refused = sqlStateOf(error)?.startsWith('28');
      throw new MillraceError(refused ? 'MR3002' : 'MR3001', messageOf(error), { cause: error });
    }
  }
}

class PoolTransaction implements Transaction {
  readonly #client: PoolClientLike;

  constructor(client: PoolClientLike) {
    this.#client = client;
  }

  query<Row>(sql: string, params?: readonly unknown[]): Promise<Result<Row>> {
    return ask<Row>(this.#client, sql, params);
  }

  /** A pool of unknown make has no COPY; one statement with all rows comes close, and the table gives the types. */
  async copy(table: string, columns: readonly string[], rows: readonly (readonly unknown[])[]): Promise<void> {
    if (rows.length === 0) return;
    const target = table.split('.').map(quote).join('.');
    const names = columns.map(quote).join(', ');
    const records = rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i] ?? null])));
    await this.#client.query(`insert into ${target} (${names}) select ${names} from json_populate_recordset(null::${target}, $1::json)`, [
      JSON.stringify(records),
    ]);
  }
}

/** Clients and pools of pg emit `error` when a connection breaks, and that ends a process that does not listen; the statement rejects anyway. */
const heard = new WeakSet<object>();

function overhear(emitter: object): void {
  const { on } = emitter as { on?: unknown };
  if (typeof on !== 'function' || heard.has(emitter)) return;
  heard.add(emitter);
  on.call(emitter, 'error', () => undefined);
}

async function ask<Row>(client: PoolClientLike, sql: string, params?: readonly unknown[]): Promise<Result<Row>> {
  const { rows, rowCount } = (await client.query(sql, params && [...params])) as { rows: Row[]; rowCount: number | null };
  return { rows, rowCount: rowCount ?? 0 };
}

/** A connection that failed other than by an SQL error goes out of the pool. */
function release(client: PoolClientLike, error: unknown, broken = sqlStateOf(error) === undefined): void {
  if (broken) client.release(error instanceof Error ? error : new Error(messageOf(error)));
  else client.release();
}

function quote(name: string): string {
  return name.startsWith('"') ? name : `"${name.replaceAll('"', '""')}"`;
}
