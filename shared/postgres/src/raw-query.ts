import pg from 'pg';

/** What pg calls on a query of one's own making. Its own COPY package works the same way. */
interface Connection {
  readonly stream: { cork(): void; uncork(): void; write(bytes: Buffer): void };
  parse(statement: { text: string; name: string; types: number[] }): void;
  bind(portal: object): void;
  describe(portal: { type: 'P' }): void;
  execute(portal: object): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  sync(): void;
}

/**
 * Goes before a statement with bytes: up to the end of the transaction, plans are made without looking at parameters. PostgreSQL puts
 * their values into a plan otherwise, and copies them each time it copies a part of that.
 */
const PLAN_BLINDLY = `select set_config('plan_cache_mode', 'force_generic_plan', true)`;

/**
 * A statement, and perhaps a COPY that follows it, written to the socket together. PostgreSQL takes everything up to the Sync as one
 * transaction: when the statement fails, the rest is skipped; when the COPY fails, the statement is undone. Parameters that are bytes already
 * are written as they are: pg would copy them twice.
 */
export class RawQuery<Row = Record<string, unknown>> implements pg.Submittable {
  readonly result: Promise<{ readonly rows: readonly Row[]; readonly rowCount: number }>;
  readonly #sql: string;
  readonly #params: readonly unknown[];
  readonly #copy: { readonly sql: string; readonly rows: Buffer } | undefined;
  /** Until the statement's own answer comes. */
  #preparing: boolean;
  readonly #answer = new (resultClass())();
  #resolve: (answer: Answer) => void = () => {};
  #reject: (error: unknown) => void = () => {};

  /** Parameters are texts, numbers, booleans, null, or texts in UTF-8. */
  constructor(sql: string, params: readonly unknown[], copy?: { readonly sql: string; readonly rows: Buffer }) {
    this.#sql = sql;
    this.#params = params;
    this.#copy = copy;
    this.#preparing = params.some(Buffer.isBuffer);
    this.result = new Promise<Answer>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    }).then(({ rows, rowCount }) => ({ rows: rows as Row[], rowCount: rowCount ?? 0 }));
  }

  submit(given: unknown): void {
    const connection = given as Connection;
    connection.stream.cork();
    try {
      if (this.#preparing) {
        connection.parse({ text: PLAN_BLINDLY, name: '', types: [] });
        connection.bind({});
        connection.execute({});
      }
      connection.parse({ text: this.#sql, name: '', types: [] });
      for (const bytes of bindMessage(this.#params)) connection.stream.write(bytes);
      connection.describe({ type: 'P' });
      connection.execute({});
      if (this.#copy) {
        connection.parse({ text: this.#copy.sql, name: '', types: [] });
        connection.bind({});
        connection.execute({});
        connection.sendCopyFromChunk(this.#copy.rows);
        connection.endCopyFrom();
      }
      connection.sync();
    } finally {
      connection.stream.uncork();
    }
  }

  handleRowDescription({ fields }: { fields: unknown[] }): void {
    this.#answer.addFields(fields);
  }

  handleDataRow({ fields }: { fields: unknown[] }): void {
    if (!this.#preparing) this.#answer.addRow(this.#answer.parseRow(fields));
  }

  /** After the preparation, the first is the statement's. */
  handleCommandComplete(complete: { text: string }): void {
    if (this.#preparing) this.#preparing = false;
    else if (this.#answer.command === null) this.#answer.addCommandComplete(complete);
  }

  handleError(error: unknown): void {
    this.#reject(error);
  }

  /** Only now it is committed. */
  handleReadyForQuery(): void {
    this.#resolve(this.#answer);
  }

  /** The rows are on their way already. */
  handleCopyInResponse(): void {}
  handleCopyData(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
}

/** The unnamed portal of the unnamed statement, all parameters and results as text. */
function bindMessage(params: readonly unknown[]): Buffer[] {
  const lengthOf = (length: number) => {
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeInt32BE(length);
    return bytes;
  };
  // Names of portal and statement, both empty; no formats; how many parameters.
  const head = Buffer.alloc(6);
  head.writeUInt16BE(params.length, 4);
  const parts: Buffer[] = [head];
  for (const param of params) {
    if (param === null || param === undefined) {
      parts.push(lengthOf(-1));
      continue;
    }
    const bytes = Buffer.isBuffer(param) ? param : Buffer.from(String(param));
    parts.push(lengthOf(bytes.length), bytes);
  }
  parts.push(Buffer.alloc(2));
  const length = parts.reduce((sum, part) => sum + part.length, 4);
  return together([Buffer.from('B'), lengthOf(length), ...parts]);
}

/** Joins what is small: each buffer costs a little to write. */
function together(parts: readonly Buffer[]): Buffer[] {
  const joined: Buffer[] = [];
  let small: Buffer[] = [];
  for (const part of parts) {
    if (part.length < 4_096) {
      small.push(part);
      continue;
    }
    joined.push(Buffer.concat(small), part);
    small = [];
  }
  joined.push(Buffer.concat(small));
  return joined;
}

interface Answer {
  readonly rows: readonly unknown[];
  readonly rowCount: number | null;
}

interface Rows extends Answer {
  readonly command: string | null;
  addFields(fields: unknown[]): void;
  parseRow(fields: unknown[]): unknown;
  addRow(row: unknown): void;
  addCommandComplete(complete: { text: string }): void;
}

/** Exported by pg, though not by its types. */
function resultClass(): new () => Rows {
  return (pg as unknown as { Result: new () => Rows }).Result;
}
