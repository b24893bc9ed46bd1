import type pg from 'pg';
import { UPSERT } from '../workload.ts';

interface Row {
  readonly id: number;
  readonly digest: string;
}

/**
 * Lets handlers of single items share statements, as everybody does who has tuned such a worker: rows that are asked
 * for together are written together, at most 500 in one statement.
 */
export class RowWriter {
  readonly #pool: pg.Pool;
  #waiting: { row: Row; resolve: () => void; reject: (error: unknown) => void }[] = [];
  #scheduled = false;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  write(id: number, digest: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ row: { id, digest }, resolve, reject });
      if (this.#waiting.length >= 500) void this.#flush();
      else if (!this.#scheduled) {
        this.#scheduled = true;
        setImmediate(() => {
          this.#scheduled = false;
          if (this.#waiting.length > 0) void this.#flush();
        });
      }
    });
  }

  async #flush(): Promise<void> {
    const batch = this.#waiting;
    this.#waiting = [];
    try {
      await writeRows(
        this.#pool,
        batch.map(({ row }) => row),
      );
      for (const { resolve } of batch) resolve();
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}

export function writeRows(client: Pick<pg.ClientBase, 'query'> | pg.Pool, rows: readonly Row[]): Promise<unknown> {
  return client.query(UPSERT, [rows.map(({ id }) => id), rows.map(({ digest }) => digest)]);
}
