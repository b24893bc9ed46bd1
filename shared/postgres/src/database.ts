/**
 * One small port over PostgreSQL: a server through `pg`, or PGlite inside this machine's process. The same SQL runs on
 * both. Parameters and values follow `pg`: bigint and numeric come back as text, json parsed, timestamptz as Date. A Buffer is a text
 * parameter that is in UTF-8 already, and for whose sake the statement is planned without looking at parameters; beside it there may be texts, numbers, booleans and null, but no lists.
 */
export interface Queryable {
  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Result<Row>>;
}

export interface Result<Row> {
  readonly rows: readonly Row[];
  /** Rows changed or returned; 0 where PostgreSQL reports none. */
  readonly rowCount: number;
}

export interface Transaction extends Queryable {
  /** COPY: the fastest way to add many rows. Values follow the columns; undefined and null are NULL; objects become json. */
  copy(table: string, columns: readonly string[], rows: readonly (readonly unknown[])[]): Promise<void>;
}

export interface Database extends Queryable {
  readonly kind: 'pg' | 'pglite';
  /**
   * Runs `work` in one transaction at READ COMMITTED and commits it. Rolls back when `work` throws. Serialization failures, deadlocks and
   * lock timeouts are tried again (5 times, with jitter): `work` must have no other side effects.
   * Rejects with MR3001/MR3002 (cannot reach, credentials) or the original database error, with its SQL state in `code`.
   * A lost connection during COMMIT rejects with `commitUnknown: true` on the error: the caller must look.
   */
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
  /**
   * A statement and then a COPY of records, as one transaction and in one round trip. Tries nothing again. Rejects as `transaction` does, with
   * `commitUnknown` whenever the connection was lost. Parameters are texts, numbers, booleans or null.
   */
  queryAndCopy<Row>(
    sql: string,
    params: readonly unknown[],
    table: string,
    columns: readonly string[],
    records: readonly Readonly<Record<string, unknown>>[],
  ): Promise<Result<Row>>;
  close(): Promise<void>;
}
