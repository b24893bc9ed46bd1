export * from './columns.ts';
export * from './define-job.ts';
export * from './job.ts';
export type * from './job-options.ts';
export * from './job-set.ts';
export * from './outcome.ts';
export type { ParamsOf, ParamsSchema, StandardSchema } from './params.ts';
export * from './postgres.ts';
export type * from './survives-json.ts';
