import { afterAll, beforeAll } from '@jest/globals';
import { StoreDatabases } from '@millrace/testing';
import { memoryLedgerStore } from '../../../../tools/simulation/memory-stores.ts';
import { ledgerStoreContract } from '../ledger-store.contract.ts';
import { PostgresLedgerStore } from './postgres-ledger-store.ts';

const databases = new StoreDatabases([{ schema: 'audit', source: new URL('../../migrations', import.meta.url) }]);
beforeAll(() => databases.open(), 300_000);
afterAll(() => databases.close());

ledgerStoreContract('PostgreSQL', () => new PostgresLedgerStore(databases.postgres), memoryLedgerStore, 40);
ledgerStoreContract('PGlite', () => new PostgresLedgerStore(databases.pglite), memoryLedgerStore, 10);
