import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '@millrace/core';
import type { Database, Queryable } from './database.ts';

/** The migrations of one schema: plain SQL files, run in the order of their names. */
export interface MigrationSet {
  readonly schema: string;
  readonly source: URL | string | readonly { readonly name: string; readonly sql: string }[];
}

interface Migration {
  readonly schema: string;
  readonly name: string;
  readonly sql: string;
  readonly hash: string;
}

const LOCK = 4_201_337;

/**
 * Brings the schemas up to date, each file in a transaction of its own, safe to call from many processes at once.
 * Returns what was applied. Throws MR3014 when an applied file has changed, MR3009 when the database is ahead of the code.
 */
export async function migrate(db: Database, sets: readonly MigrationSet[]): Promise<readonly string[]> {
  const migrations = sets.flatMap(read);
  const applied: string[] = [];
  for (const migration of migrations) {
    await db.transaction(async (tx) => {
      await tx.query(`select pg_advisory_xact_lock(${LOCK})`);
      await tx.query('create schema if not exists millrace');
      await tx.query(
        `create table if not exists millrace.migrations (schema text, name text, hash text not null, applied_at timestamptz not null default now(), primary key (schema, name))`,
      );
      const pending = await compare(tx, migrations);
      if (!pending.includes(migration)) return;
      await tx.query(migration.sql);
      await tx.query('insert into millrace.migrations (schema, name, hash) values ($1, $2, $3)', [
        migration.schema,
        migration.name,
        migration.hash,
      ]);
      applied.push(`${migration.schema}/${migration.name}`);
    });
  }
  return applied;
}

/** Throws MR3010 when migrations are missing, MR3009 or MR3014 as `migrate` does. */
export async function checkMigrated(db: Queryable, sets: readonly MigrationSet[]): Promise<void> {
  const { rows } = await db.query<{ known: string | null }>(`select to_regclass('millrace.migrations')::text as known`);
  const migrations = sets.flatMap(read);
  const pending = rows[0]?.known ? await compare(db, migrations) : migrations;
  if (pending.length > 0) throw new MillraceError('MR3010', `not applied: ${pending.map((m) => `${m.schema}/${m.name}`).join(', ')}`);
}

async function compare(db: Queryable, migrations: readonly Migration[]): Promise<readonly Migration[]> {
  const { rows } = await db.query<{ schema: string; name: string; hash: string }>(
    'select schema, name, hash from millrace.migrations where schema = any($1::text[])',
    [[...new Set(migrations.map((m) => m.schema))]],
  );
  const known = new Map(migrations.map((m) => [`${m.schema}/${m.name}`, m]));
  for (const row of rows) {
    const id = `${row.schema}/${row.name}`;
    const migration = known.get(id);
    if (!migration) throw new MillraceError('MR3009', `the database has ${id}, which this code does not know`);
    if (migration.hash !== row.hash) throw new MillraceError('MR3014', id);
    known.delete(id);
  }
  return [...known.values()];
}

function read({ schema, source }: MigrationSet): Migration[] {
  const files = typeof source === 'string' || source instanceof URL ? readDirectory(source) : source;
  return files.map(({ name, sql }) => ({
    schema,
    name,
    sql,
    hash: createHash('sha256').update(sql.replaceAll('\r\n', '\n')).digest('hex'),
  }));
}

function readDirectory(directory: URL | string): { name: string; sql: string }[] {
  const path = directory instanceof URL ? fileURLToPath(directory) : directory;
  return readdirSync(path)
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => ({ name, sql: readFileSync(`${path}/${name}`, 'utf8') }));
}
