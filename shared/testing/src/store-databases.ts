import { connectPostgres, type Database, migrate, openPglite } from '@millrace/postgres';
import { startPostgres } from './start-servers.ts';

/** A private PostgreSQL server and an embedded PGlite, for suites that give the same calls to both. */
export class StoreDatabases {
  readonly #migrations: Parameters<typeof migrate>[1];
  readonly #closing: (() => Promise<unknown>)[] = [];
  #postgres: Database | undefined;
  #pglite: Database | undefined;

  /** `migrations`: the schemas that both are to have. */
  constructor(migrations: Parameters<typeof migrate>[1] = []) {
    this.#migrations = migrations;
  }

  get postgres(): Database {
    return opened(this.#postgres);
  }

  get pglite(): Database {
    return opened(this.#pglite);
  }

  /** May take minutes on a busy machine. */
  async open(): Promise<void> {
    const server = await startPostgres();
    this.#closing.push(() => server.stop());
    this.#postgres = await connectPostgres({ url: server.url });
    this.#closing.push(() => this.postgres.close());
    this.#pglite = await openPglite();
    this.#closing.push(() => this.pglite.close());
    for (const database of [this.#postgres, this.#pglite]) await migrate(database, this.#migrations);
  }

  /** Also after an `open` that has failed half-way. */
  async close(): Promise<void> {
    for (const close of this.#closing.splice(0).reverse()) await close();
  }
}

function opened(database: Database | undefined): Database {
  if (!database) throw new Error('the databases have not been opened');
  return database;
}
