export type * from './database.ts';
export * from './directory-lock.ts';
export * from './jsonb.ts';
export * from './migrate.ts';
export * from './now.ts';
export * from './pg.ts';
export * from './pglite.ts';
