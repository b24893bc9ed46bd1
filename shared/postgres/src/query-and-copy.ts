import pg from 'pg';

/** What pg calls on a query of one's own making. Its own COPY package works the same way. */
interface Connection {
  readonly stream: { cork(): void; uncork(): void };
  parse(statement: { text: string; name: string; types: number[] }): void;
  bind(portal: { values?: readonly unknown[]; valueMapper?: (value: unknown) => unknown }): void;
  describe(portal: { type: 'P' }): void;
  execute(portal: object): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  sync(): void;
}

/**
 * A statement and the COPY that follows it, written to the socket together. PostgreSQL takes everything up to the Sync as one
 * transaction: when the statement fails, the rest is skipped; when the COPY fails, the statement is undone.
 */
export class QueryAndCopy implements pg.Submittable {
  readonly rows: Promise<Record<string, unknown>[]>;
  readonly #sql: string;
  readonly #params: readonly unknown[];
  readonly #copy: string;
  readonly #rows: Buffer;
  readonly #result = new (resultClass())();
  #resolve: (rows: Record<string, unknown>[]) => void = () => {};
  #reject: (error: unknown) => void = () => {};

  constructor(sql: string, params: readonly unknown[], copy: string, rows: Buffer) {
    this.#sql = sql;
    this.#params = params;
    this.#copy = copy;
    this.#rows = rows;
    this.rows = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  submit(given: unknown): void {
    const connection = given as Connection;
    connection.stream.cork();
    try {
      connection.parse({ text: this.#sql, name: '', types: [] });
      connection.bind({ values: this.#params, valueMapper: textOf });
      connection.describe({ type: 'P' });
      connection.execute({});
      connection.parse({ text: this.#copy, name: '', types: [] });
      connection.bind({});
      connection.execute({});
      connection.sendCopyFromChunk(this.#rows);
      connection.endCopyFrom();
      connection.sync();
    } finally {
      connection.stream.uncork();
    }
  }

  handleRowDescription({ fields }: { fields: unknown[] }): void {
    this.#result.addFields(fields);
  }

  handleDataRow({ fields }: { fields: unknown[] }): void {
    this.#result.addRow(this.#result.parseRow(fields));
  }

  handleError(error: unknown): void {
    this.#reject(error);
  }

  /** Only now it is committed. */
  handleReadyForQuery(): void {
    this.#resolve(this.#result.rows);
  }

  handleCommandComplete(): void {}
  /** The rows are on their way already. */
  handleCopyInResponse(): void {}
  handleCopyData(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
}

function textOf(value: unknown): string | null {
  return value === null || value === undefined ? null : String(value);
}

interface Rows {
  readonly rows: Record<string, unknown>[];
  addFields(fields: unknown[]): void;
  parseRow(fields: unknown[]): Record<string, unknown>;
  addRow(row: Record<string, unknown>): void;
}

/** Exported by pg, though not by its types. */
function resultClass(): new () => Rows {
  return (pg as unknown as { Result: new () => Rows }).Result;
}
