import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { copyRecords, copyStatement, copyText } from './copy-text.ts';
import type { Database, Result, Transaction } from './database.ts';
import { isRetryable, translate } from './errors.ts';
import { LostConnections } from './lost-connections.ts';
import { RawQuery } from './raw-query.ts';
import { retryTransaction } from './retry-transaction.ts';

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database` */
  readonly url: string;
  /** Connections in the pool. Default 6. */
  readonly max?: number;
  readonly applicationName?: string;
}

/** Opens a pool and proves that the server answers. Throws MR3001 or MR3002. */
export async function connectPostgres(options: PostgresOptions): Promise<Database> {
  const lost = new LostConnections(options.url);
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.max ?? 6,
    application_name: options.applicationName ?? 'millrace',
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    onConnect: lost.meet,
  });
  // An idle connection that dies is replaced by the next query; without a listener it would end the process.
  pool.on('error', () => {});
  // The same for a connection that dies while a transaction holds it: its next statement rejects.
  pool.on('connect', (client) => client.on('error', () => {}));
  pool.on('remove', lost.forget);
  const database = new PostgresDatabase(pool, whereOf(options.url), lost);
  try {
    await database.query('select 1');
  } catch (error) {
    await database.close();
    throw error;
  }
  return database;
}

/** Host, port and database of a URL, without its secrets. */
function whereOf(url: string): string {
  try {
    const { hostname, port, pathname } = new URL(url);
    return `${hostname}:${port || 5432}${pathname}`;
  } catch {
    return 'DATABASE_URL';
  }
}

class PostgresDatabase implements Database {
  readonly kind = 'pg';
  readonly #pool: pg.Pool;
  readonly #where: string;
  readonly #lost: LostConnections;

  constructor(pool: pg.Pool, where: string, lost: LostConnections) {
    this.#pool = pool;
    this.#where = where;
    this.#lost = lost;
  }

  async query<Row>(sql: string, params?: readonly unknown[]): Promise<Result<Row>> {
    if (params?.some(Buffer.isBuffer)) return this.#raw(new RawQuery<Row>(sql, params));
    try {
      return resultOf(await this.#pool.query(sql, params as unknown[]));
    } catch (error) {
      throw translate(error, this.#where);
    }
  }

  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return retryTransaction(() => this.#once(work), isRetryable);
  }

  async #once<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    let client: pg.PoolClient;
    try {
      client = await this.#pool.connect();
    } catch (error) {
      throw translate(error, this.#where);
    }
    let broken: Error | undefined;
    let committing = false;
    try {
      await client.query('begin');
      const value = await work(transactionOf(client));
      committing = true;
      await client.query('commit');
      return value;
    } catch (error) {
      const translated = translate(error, this.#where);
      if (translated !== error) broken = error as Error;
      else
        await client.query('rollback').catch((cause) => {
          broken = cause as Error;
        });
      if (committing && translated instanceof Error && translated !== error) Object.assign(translated, { commitUnknown: true });
      throw translated;
    } finally {
      client.release(broken);
    }
  }

  async queryAndCopy<Row>(
    sql: string,
    params: readonly unknown[],
    table: string,
    columns: readonly string[],
    records: readonly Readonly<Record<string, unknown>>[],
  ): Promise<Result<Row>> {
    const copy = { sql: copyStatement(table, columns, 'stdin'), rows: Buffer.from(copyRecords(columns, records)) };
    return this.#raw(new RawQuery<Row>(sql, params, copy));
  }

  async #raw<Row>(query: RawQuery<Row>): Promise<Result<Row>> {
    let client: pg.PoolClient;
    try {
      client = await this.#pool.connect();
    } catch (error) {
      throw translate(error, this.#where);
    }
    let broken: Error | undefined;
    try {
      client.query(query);
      return await query.result;
    } catch (error) {
      const translated = translate(error, this.#where);
      if (translated !== error) {
        broken = error as Error;
        Object.assign(translated as object, { commitUnknown: true });
      }
      throw translated;
    } finally {
      client.release(broken);
    }
  }

  close(): Promise<void> {
    // Watched to the end: a query that waits for a server that is gone would keep the pool open.
    return this.#pool.end().finally(() => this.#lost.close());
  }
}

function transactionOf(client: pg.PoolClient): Transaction {
  return {
    async query<Row>(sql: string, params?: readonly unknown[]): Promise<Result<Row>> {
      return resultOf(await client.query(sql, params as unknown[]));
    },
    async copy(table, columns, rows) {
      if (rows.length === 0) return;
      await pipeline(Readable.from([Buffer.from(copyText(rows))]), client.query(copyFrom(copyStatement(table, columns, 'stdin'))));
    },
  };
}

function resultOf<Row>(result: pg.QueryResult | pg.QueryResult[]): Result<Row> {
  const last = Array.isArray(result) ? result.at(-1) : result;
  return { rows: (last?.rows ?? []) as Row[], rowCount: last?.rowCount ?? 0 };
}
