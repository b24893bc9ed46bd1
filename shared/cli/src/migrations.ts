import type { MigrationSet } from '@millrace/postgres';

const folder = (service: string) => new URL(`../../../services/${service}/migrations/`, import.meta.url);

/** Every schema of a Millrace database, in the order in which they are made. */
export const migrationSets: readonly MigrationSet[] = [
  { schema: 'planner', source: folder('planner') },
  { schema: 'audit', source: folder('audit') },
  { schema: 'millrace', source: folder('processor') },
];
