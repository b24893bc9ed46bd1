import { afterAll, beforeAll } from '@jest/globals';
import { StoreDatabases } from '@millrace/testing';
import { memoryPlanStore } from '../../../../tools/simulation/memory-stores.ts';
import { planStoreContract } from '../plan-store.contract.ts';
import { PostgresPlanStore } from './postgres-plan-store.ts';

const databases = new StoreDatabases([{ schema: 'planner', source: new URL('../../migrations', import.meta.url) }]);
beforeAll(() => databases.open(), 300_000);
afterAll(() => databases.close());

planStoreContract('PostgreSQL', () => new PostgresPlanStore(databases.postgres), memoryPlanStore, 40);
planStoreContract('PGlite', () => new PostgresPlanStore(databases.pglite), memoryPlanStore, 10);
