import { afterAll, beforeAll } from '@jest/globals';
import { connectPostgres, type Database, migrate, openPglite } from '@millrace/postgres';
import { startPostgres, type TestServer } from '@millrace/testing';
import { memoryLedgerStore } from '../../../../tools/simulation/memory-stores.ts';
import { ledgerStoreContract } from '../ledger-store.contract.ts';
import { PostgresLedgerStore } from './postgres-ledger-store.ts';

const MIGRATIONS = [{ schema: 'audit', source: new URL('../../migrations', import.meta.url) }];

let server: TestServer;
let postgres: Database;
let pglite: Database;
beforeAll(async () => {
  server = await startPostgres();
  postgres = await connectPostgres({ url: server.url });
  await migrate(postgres, MIGRATIONS);
  pglite = await openPglite();
  await migrate(pglite, MIGRATIONS);
}, 300_000);
afterAll(async () => {
  await pglite?.close();
  await postgres?.close();
  await server?.stop();
});

ledgerStoreContract('PostgreSQL', () => new PostgresLedgerStore(postgres), memoryLedgerStore, 40);
ledgerStoreContract('PGlite', () => new PostgresLedgerStore(pglite), memoryLedgerStore, 10);
