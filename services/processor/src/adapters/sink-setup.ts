import { readFile } from 'node:fs/promises';
import { splitStatements } from '../domain/split-statements.ts';
import type { InboxDatabase } from './postgres-inbox.ts';

/**
 * Makes the inbox table where it is missing. Asks first, because `create … if not exists` needs the right to create
 * even when there is nothing to do.
 */
export async function ensureInbox(database: InboxDatabase): Promise<void> {
  const { rows } = await database.query<{ inbox: boolean; fence: boolean }>(
    `select to_regclass('millrace.inbox') is not null as inbox, to_regclass('millrace.inbox_fence') is not null as fence`,
  );
  if (!rows[0]?.inbox) await runSetup(database, await readFile(new URL('../../migrations/0001-inbox.sql', import.meta.url), 'utf8'));
  if (!rows[0]?.fence) await runSetup(database, await readFile(new URL('../../migrations/0002-inbox-fence.sql', import.meta.url), 'utf8'));
}

/** Replicas that start together take turns: `create … if not exists` alone is no match for a race. */
export async function runSetup(database: InboxDatabase, sql: string): Promise<void> {
  const statements = splitStatements(sql);
  if (statements.length === 0) return;
  await database.transaction(async (tx) => {
    await tx.query(`select pg_advisory_xact_lock(hashtext('millrace.setup'))`);
    for (const statement of statements) await tx.query(statement);
  });
}
