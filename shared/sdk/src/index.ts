export * from './columns.ts';
export * from './define-job.ts';
export * from './job.ts';
export * from './job-set.ts';
export * from './outcome.ts';
export * from './postgres.ts';
export type * from './survives-json.ts';
