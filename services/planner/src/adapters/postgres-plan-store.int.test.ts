import { afterAll, beforeAll } from '@jest/globals';
import { connectPostgres, type Database, migrate, openPglite } from '@millrace/postgres';
import { startPostgres, type TestServer } from '@millrace/testing';
import { memoryPlanStore } from '../../../../tools/simulation/memory-stores.ts';
import { planStoreContract } from '../plan-store.contract.ts';
import { PostgresPlanStore } from './postgres-plan-store.ts';

const MIGRATIONS = [{ schema: 'planner', source: new URL('../../migrations', import.meta.url) }];

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

planStoreContract('PostgreSQL', () => new PostgresPlanStore(postgres), memoryPlanStore, 40);
planStoreContract('PGlite', () => new PostgresPlanStore(pglite), memoryPlanStore, 10);
