import type { MigrationSet } from '@millrace/postgres';

/** Every schema of a Millrace database, in the order in which they are made. */
export const migrationSets: readonly MigrationSet[] = [
  { schema: 'planner', source: new URL('../../../services/planner/migrations/', import.meta.url) },
  { schema: 'audit', source: new URL('../../../services/audit/migrations/', import.meta.url) },
  { schema: 'millrace', source: new URL('../../../services/processor/migrations/', import.meta.url) },
];
