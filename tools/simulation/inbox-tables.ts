import { type Chunk, chunkIdOf, type Milliseconds, MillraceError } from '@millrace/core';
import type { SinkTransaction } from 'millrace';
import type { Settled } from '../../services/processor/src/domain/results.ts';
import type { Inbox, InboxRow, InboxTransaction, Timing } from '../../services/processor/src/inbox.ts';
import { Locks } from './locks.ts';
import type { Mutants } from './mutants.ts';
import { lostConnection, type SimProcess } from './process.ts';

const RETRYABLE = new Set(['40001', '40P01', '55P03', '57014']);
const TRIES = 5;

/** One effect as the simulated jobs write it. A poisonous one breaks a constraint of the table. */
export interface EffectRow {
  readonly run: string;
  readonly key: string;
  readonly poison?: boolean;
}

/** The database of the sink: the inbox, and the table of effects. It has no unique key on purpose: doubled effects must show. */
export class InboxTables {
  readonly rows = new Map<string, InboxRow>();
  /** Committed effects, counted by run and key. */
  readonly effects = new Map<string, number>();
  readonly locks = new Locks();
  /** Rows of runs that were opened before may have been deleted. */
  #purgedBefore = Number.NEGATIVE_INFINITY;
  readonly #now: () => number;
  readonly #mutants: Mutants;

  constructor(now: () => number, mutants: Mutants) {
    this.#now = now;
    this.#mutants = mutants;
  }

  now(): number {
    return Math.floor(this.#now());
  }

  /** First the fence, then the rows: what is deleted was settled, and so its run opened, before it. Returns their number. */
  purge(retention: Milliseconds): number {
    const before = this.now() - retention;
    if (!this.#mutants.on('purge-before-fence')) this.#purgedBefore = Math.max(this.#purgedBefore, before);
    let purged = 0;
    for (const [id, { settledAt }] of this.rows) if (settledAt < before && this.rows.delete(id)) purged++;
    return purged;
  }

  /** Nobody can know any more what became of this chunk. */
  isBehindFence({ openedAt }: Chunk): boolean {
    return openedAt < this.#purgedBefore;
  }

  apply(effects: readonly EffectRow[]): void {
    for (const { run, key } of effects) {
      const id = `${run} ${key}`;
      this.effects.set(id, (this.effects.get(id) ?? 0) + 1);
    }
  }
}

export function inboxOf(tables: InboxTables, process: SimProcess, mutants: Mutants): Inbox {
  return {
    insertWithRows: (entries) => {
      const tx = {};
      tables.locks.releaseWith(process, tx);
      const effects = entries.flatMap((entry) =>
        entry.effects.map(({ run, key, poison }): EffectRow => ({ run: String(run), key: String(key), poison: poison === true })),
      );
      return process.call(
        'inbox.insertWithRows',
        async () => {
          try {
            const inserted = new Set<string>();
            for (const { chunk } of entries) {
              const id = idOf(chunk);
              await tables.locks.take(id, tx);
              if (tables.isBehindFence(chunk)) throw Object.assign(new Error('division by zero'), { code: '22012' });
              if ((tables.rows.has(id) && !mutants.on('insert-without-lock')) || inserted.has(id))
                throw Object.assign(new Error('duplicate key value violates unique constraint "inbox_pkey"'), { code: '23505' });
              inserted.add(id);
            }
            refusePoison(effects);
            const rows = entries.map(({ chunk, settled, timing }) => ({ ...settled, size: chunk.size, timing, settledAt: tables.now() }));
            for (const [i, { chunk }] of entries.entries()) tables.rows.set(idOf(chunk), rows[i] as InboxRow);
            tables.apply(effects);
            return rows;
          } finally {
            tables.locks.release(tx);
          }
        },
        (phase) =>
          phase === 'before' && process.surroundings.random.chance(0.5)
            ? Object.assign(new Error('simulated: deadlock detected'), { code: '40P01' })
            : Object.assign(lostConnection() as object, { commitUnknown: true }),
        entries.map(({ chunk }) => idOf(chunk)).join(' '),
      );
    },
    find: (chunk) => process.call('inbox.find', () => tables.rows.get(idOf(chunk)), lostConnection, idOf(chunk)),
    async transaction<T>(work: (tx: InboxTransaction) => Promise<T>): Promise<T> {
      for (let tries = 1; ; tries++) {
        const tx = new SimInboxTransaction(tables, process, mutants);
        try {
          await tx.begin();
          const value = await work(tx);
          await tx.commit();
          return value;
        } catch (error) {
          await tx.rollback();
          if (tries >= TRIES || !RETRYABLE.has(String((error as { code?: unknown }).code))) throw error;
          await process.time.sleep(process.surroundings.random.next() * 20 * 2 ** tries);
        }
      }
    },
  };
}

/**
 * open ──commit──▶ over          A failed statement dooms the transaction until a savepoint is restored;
 *   └──rollback, crash, lost connection──▶ over          its locks are held until it is over.
 */
class SimInboxTransaction implements InboxTransaction {
  readonly #tables: InboxTables;
  readonly #process: SimProcess;
  readonly #mutants: Mutants;
  readonly #rows = new Map<string, InboxRow>();
  #effects: EffectRow[] = [];
  #doomed: unknown;
  #over = false;

  constructor(tables: InboxTables, process: SimProcess, mutants: Mutants) {
    this.#tables = tables;
    this.#process = process;
    this.#mutants = mutants;
  }

  begin(): Promise<void> {
    this.#tables.locks.releaseWith(this.#process, this);
    return this.#call('inbox.begin', () => {});
  }

  insert(chunk: Chunk, settled: Settled, timing: Timing): Promise<InboxRow | undefined> {
    const id = idOf(chunk);
    return this.#call(
      'inbox.insert',
      async () => {
        // Waits for a transaction that is about to make the same row.
        if (!this.#mutants.on('insert-without-lock')) await this.#tables.locks.take(id, this);
        if (this.#tables.isBehindFence(chunk)) throw new MillraceError('MR4004', `the inbox has been purged beyond run ${chunk.runId}`);
        if ((this.#rows.has(id) || this.#tables.rows.has(id)) && !this.#mutants.on('insert-without-lock')) return undefined;
        const row = { ...settled, size: chunk.size, timing, settledAt: this.#tables.now() };
        this.#rows.set(id, row);
        return row;
      },
      id,
    );
  }

  lock(chunk: Chunk): Promise<InboxRow | undefined> {
    const id = idOf(chunk);
    return this.#call(
      'inbox.lock',
      async () => {
        if (!this.#mutants.on('lock-without-lock')) await this.#tables.locks.take(id, this);
        return this.#rows.get(id) ?? this.#tables.rows.get(id);
      },
      id,
    );
  }

  update(chunk: Chunk, settled: Settled, timing: Timing): Promise<InboxRow> {
    const id = idOf(chunk);
    return this.#call(
      'inbox.update',
      () => {
        if (!this.#rows.has(id) && !this.#tables.rows.has(id)) throw new MillraceError('MR3012', `inbox row ${id} is gone`);
        const row = { ...settled, size: chunk.size, timing, settledAt: this.#tables.now() };
        this.#rows.set(id, row);
        return row;
      },
      id,
    );
  }

  async effects(write: (tx: SinkTransaction) => unknown): Promise<void> {
    await write(this.#sink());
    if (this.#doomed !== undefined) throw this.#doomed;
  }

  async savepoint(write: (tx: SinkTransaction) => unknown): Promise<void> {
    const mark = this.#effects.length;
    await this.#call('inbox.savepoint', () => {});
    try {
      await this.effects(write);
    } catch (error) {
      this.#effects.length = mark;
      if (!this.#over) this.#doomed = undefined;
      throw error;
    }
  }

  commit(): Promise<void> {
    return this.#process.call(
      'inbox.commit',
      () => {
        if (this.#over) throw lostConnection();
        this.#over = true;
        // After a failed statement a COMMIT rolls back, and says nothing.
        if (this.#doomed !== undefined) return this.#tables.locks.release(this);
        for (const [id, row] of this.#rows) this.#tables.rows.set(id, row);
        if (!this.#mutants.on('inbox-in-another-transaction')) this.#tables.apply(this.#effects);
        this.#tables.locks.release(this);
      },
      (phase) => {
        const { random } = this.#process.surroundings;
        this.#over = true;
        this.#tables.locks.release(this);
        // Deferred work can fail at the commit itself; then the server says so and nothing is unknown.
        if (phase === 'before' && random.chance(0.3)) return Object.assign(new Error('simulated: could not serialize'), { code: '40001' });
        return Object.assign(lostConnection() as object, { commitUnknown: true });
      },
      [...this.#rows.keys()].join(' '),
    );
  }

  async rollback(): Promise<void> {
    if (this.#over) return;
    await this.#process.call('inbox.rollback', () => {
      this.#over = true;
      this.#tables.locks.release(this);
    });
  }

  #sink(): SinkTransaction {
    return {
      query: async <Row>(_sql: string, params?: readonly unknown[]) => {
        const rows = (params?.[0] ?? []) as readonly EffectRow[];
        await this.#write(rows);
        return { rows: [] as Row[], rowCount: rows.length };
      },
      copy: async (_table, _columns, values) => {
        await this.#write(values.map(([run, key, poison]) => ({ run: String(run), key: String(key), poison: poison === true })));
      },
    };
  }

  #write(rows: readonly EffectRow[]): Promise<void> {
    return this.#call(
      'inbox.effects',
      () => {
        refusePoison(rows);
        if (this.#mutants.on('inbox-in-another-transaction')) this.#tables.apply(rows);
        else this.#effects.push(...rows);
      },
      `${rows.length} rows`,
    );
  }

  /** A statement. An error of it dooms the transaction; a lost connection ends it. */
  async #call<T>(method: string, effect: () => T | Promise<T>, detail = ''): Promise<T> {
    if (this.#over) throw lostConnection();
    try {
      return await this.#process.call(
        method,
        () => {
          if (this.#doomed !== undefined) throw Object.assign(new Error('current transaction is aborted'), { code: '25P02' });
          return effect();
        },
        (phase) => {
          const { random } = this.#process.surroundings;
          if (phase === 'before' && random.chance(0.5)) return Object.assign(new Error('simulated: deadlock detected'), { code: '40P01' });
          this.#over = true;
          this.#tables.locks.release(this);
          return lostConnection();
        },
        detail,
      );
    } catch (error) {
      this.#doomed ??= error;
      throw error;
    }
  }
}

function idOf(chunk: Chunk): string {
  return chunkIdOf(chunk.runId, chunk.generation, chunk.seq);
}

function refusePoison(rows: readonly EffectRow[]): void {
  if (rows.some(({ poison }) => poison)) throw Object.assign(new Error('violates check constraint "no_poison"'), { code: '23514' });
}
