import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { MillraceError } from '@millrace/core';
import { copyRecords, copyStatement, copyText } from './copy-text.ts';
import type { Database, Result, Transaction } from './database.ts';
import { type DirectoryLock, lockDirectory } from './directory-lock.ts';
import { isRetryable, translate } from './errors.ts';
import { retryTransaction } from './retry-transaction.ts';

export interface PgliteOptions {
  /** Where the data lives; locked while open (MR3008). Undefined: in memory. */
  readonly directory?: string;
}

/** PGlite in a worker thread. `lock` is present when there is a directory. */
export type PgliteDatabase = Database & { readonly lock: DirectoryLock | undefined };

/**
 * Opens PostgreSQL inside this process. One session: statements and transactions take turns, in the order in which they came.
 * It does not call fsync: a kill loses nothing, a power cut may.
 */
export async function openPglite(options: PgliteOptions = {}): Promise<PgliteDatabase> {
  const directory = options.directory === undefined ? undefined : resolve(options.directory);
  if (directory) mkdirSync(directory, { recursive: true });
  const lock = directory ? lockDirectory(directory) : undefined;
  const worker = new Worker(new URL('./pglite-worker.mjs', import.meta.url), {
    workerData: { directory: directory && `${directory}/pgdata` },
    execArgv: [],
  });
  const database = new WorkerDatabase(worker, lock);
  try {
    await database.opened;
  } catch (cause) {
    await worker.terminate();
    lock?.release();
    throw new MillraceError('MR3012', `the embedded database in ${directory ?? 'memory'} did not open: ${(cause as Error).message}`, {
      cause,
    });
  }
  return database;
}

type Answer = { ready: true } | { id: number; result: Result<never> } | { id: number; error: { message: string } };

class WorkerDatabase implements PgliteDatabase {
  readonly kind = 'pglite';
  readonly lock: DirectoryLock | undefined;
  readonly opened: Promise<void>;
  readonly #worker: Worker;
  readonly #calls = new Map<number, { resolve: (result: Result<never>) => void; reject: (error: unknown) => void }>();
  #nextId = 0;
  /** The end of the queue: whoever comes next waits for it. */
  #turn: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  constructor(worker: Worker, lock: DirectoryLock | undefined) {
    this.#worker = worker;
    this.lock = lock;
    this.opened = new Promise((resolveOpened, reject) => {
      worker.on('message', (answer: Answer) => {
        if ('ready' in answer) return resolveOpened();
        const call = this.#calls.get(answer.id);
        this.#calls.delete(answer.id);
        if (this.#calls.size === 0) worker.unref();
        if ('error' in answer)
          call?.reject(translate(Object.assign(new Error(answer.error.message), answer.error), 'the embedded database'));
        else call?.resolve(answer.result);
      });
      worker.on('error', (error) => {
        reject(error);
        this.#fail(error);
      });
      worker.on('exit', () => this.#fail(new Error('the embedded database has stopped')));
    });
  }

  query<Row>(sql: string, params?: readonly unknown[]): Promise<Result<Row>> {
    return this.#inTurn(() => this.#call<Row>('query', sql, plain(params)));
  }

  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return retryTransaction(() => this.#inTurn(() => this.#once(work)), isRetryable);
  }

  async #once<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    await this.#call('query', 'begin');
    try {
      const value = await work({
        query: (sql, params) => this.#call('query', sql, plain(params)),
        copy: async (table, columns, rows) => {
          if (rows.length > 0) await this.#call('copy', copyStatement(table, columns, `'/dev/blob'`), copyText(rows));
        },
      });
      await this.#call('query', 'commit');
      return value;
    } catch (error) {
      await this.#call('query', 'rollback').catch(() => {});
      throw error;
    }
  }

  queryAndCopy<Row>(
    sql: string,
    params: readonly unknown[],
    table: string,
    columns: readonly string[],
    records: readonly Readonly<Record<string, unknown>>[],
  ): Promise<Result<Row>> {
    const copy =
      records.length === 0 ? undefined : { sql: copyStatement(table, columns, `'/dev/blob'`), text: copyRecords(columns, records) };
    return this.#inTurn(() => this.#call<Row>('query and copy', sql, { params: plain(params), copy }));
  }

  close(): Promise<void> {
    this.#closed ??= this.#inTurn(async () => {
      await this.#call('close', '').catch(() => {});
      await this.#worker.terminate();
      this.lock?.release();
    });
    return this.#closed;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  #call<Row>(kind: 'query' | 'copy' | 'query and copy' | 'close', sql: string, params?: unknown): Promise<Result<Row>> {
    return new Promise<Result<never>>((resolveCall, reject) => {
      const id = this.#nextId++;
      this.#calls.set(id, { resolve: resolveCall, reject });
      this.#worker.ref();
      this.#worker.postMessage({ id, kind, sql, params });
    });
  }

  #fail(error: Error): void {
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }
}

/** Parameters as `pg` would send them: arrays and Dates pass, other objects become JSON text where PGlite expects it. */
function plain(params: readonly unknown[] | undefined): unknown[] | undefined {
  return params?.map((value) => (value === undefined ? null : Buffer.isBuffer(value) ? value.toString() : value));
}
