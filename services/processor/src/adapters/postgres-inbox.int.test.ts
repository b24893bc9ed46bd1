import { afterAll, beforeAll } from '@jest/globals';
import type { Database } from '@millrace/postgres';
import { StoreDatabases } from '@millrace/testing';
import { memoryInbox } from '../../../../tools/simulation/memory-stores.ts';
import { RealTime } from '../../../../tools/simulation/real-time.ts';
import { type InboxRig, inboxContract } from '../inbox.contract.ts';
import { PostgresInbox } from './postgres-inbox.ts';
import { ensureInbox } from './sink-setup.ts';

const databases = new StoreDatabases();
const world = new RealTime();
beforeAll(async () => {
  await databases.open();
  for (const database of [databases.postgres, databases.pglite]) {
    await ensureInbox(database);
    await database.query('create table effects (run text, key text, poison boolean constraint no_poison check (not poison))');
  }
}, 300_000);
afterAll(async () => {
  await world.close();
  await databases.close();
});

function rigOf(database: Database): InboxRig {
  const inbox = new PostgresInbox(database);
  return {
    inbox,
    purge: (retention) => inbox.purge(retention),
    effects: async (run) =>
      (await database.query<{ key: string }>('select key from effects where run = $1 order by key collate "C"', [run])).rows.map(
        ({ key }) => key,
      ),
  };
}

inboxContract(
  'PostgreSQL',
  async () => rigOf(databases.postgres),
  async () => memoryInbox(world),
  40,
);
inboxContract(
  'PGlite',
  async () => rigOf(databases.pglite),
  async () => memoryInbox(world),
  10,
);
