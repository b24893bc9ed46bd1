import { migrate } from '@millrace/postgres';
import { EXIT } from '../exit-codes.ts';
import { migrationSets } from '../migrations.ts';
import { localConfig, openLocal } from '../open-local.ts';
import type { Output } from '../output.ts';

const needs = { work: false, events: false, jobs: false };

export async function migrateDatabase(output: Output): Promise<number> {
  const platform = await openLocal(await localConfig('warn', needs), 'migrate', needs);
  try {
    const applied = await migrate(platform.database, migrationSets);
    output.object({ applied }, () => (applied.length === 0 ? 'Nothing to do.' : applied.map((name) => `applied ${name}`).join('\n')));
    return EXIT.ok;
  } finally {
    await platform.close();
  }
}
