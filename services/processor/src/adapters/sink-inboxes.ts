import type { Milliseconds, Time } from '@millrace/core';
import type { Job, PoolLike } from 'millrace';
import type { Inbox } from '../inbox.ts';
import { PoolDatabase } from './pool-sink.ts';
import { type InboxDatabase, PostgresInbox } from './postgres-inbox.ts';
import { ensureInbox, runSetup } from './sink-setup.ts';

/** The inboxes of this process: one per database, prepared once. */
export class SinkInboxes {
  readonly #default: InboxDatabase;
  readonly #time: Time;
  readonly #random: () => number;
  readonly #prepared = new Map<InboxDatabase, Promise<PostgresInbox>>();
  readonly #pools = new Map<PoolLike, PoolDatabase>();

  constructor(database: InboxDatabase, time: Time, random: () => number) {
    this.#default = database;
    this.#time = time;
    this.#random = random;
  }

  async open(job: Job): Promise<Inbox> {
    const { sink } = job;
    const database = sink.kind === 'postgres' && sink.pool ? this.#pooled(sink.pool) : this.#default;
    let inbox = this.#prepared.get(database);
    if (!inbox) {
      inbox = ensureInbox(database).then(() => new PostgresInbox(database));
      this.#prepared.set(database, inbox);
      // A failure is told to those who wait; the next one tries anew.
      inbox.catch(() => this.#prepared.delete(database));
    }
    const opened = await inbox;
    if (sink.kind === 'postgres' && sink.setup !== undefined) await runSetup(database, sink.setup);
    return opened;
  }

  /** Deletes rows older than `retention` in every database that has been opened. Returns their number. */
  async purge(retention: Milliseconds): Promise<number> {
    let purged = 0;
    for (const inbox of this.#prepared.values()) purged += await (await inbox).purge(retention);
    return purged;
  }

  #pooled(pool: PoolLike): PoolDatabase {
    let database = this.#pools.get(pool);
    if (!database) {
      database = new PoolDatabase(pool, this.#time, this.#random);
      this.#pools.set(pool, database);
    }
    return database;
  }
}
