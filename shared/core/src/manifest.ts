import Type, { type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { MillraceError, messageOf } from './errors.ts';

/** What a job says of itself without its code: all that clock, audit and console know of it. */
const Limit = Type.Number({ minimum: 0 });

export const Schedule = Type.Object({
  /** Cron expressions, 5 or 6 fields; the job is due whenever one of them is. */
  cron: Type.Array(Type.String(), { minItems: 1 }),
  timeZone: Type.String(),
  overlap: Type.Union([Type.Literal('skip'), Type.Literal('allow'), Type.Literal('bufferOne')]),
  catchUp: Type.Object({ mode: Type.Union([Type.Literal('latest'), Type.Literal('all'), Type.Literal('none')]), window: Limit }),
});
export type Schedule = Static<typeof Schedule>;

/** The part of a manifest that travels with each run, so that a later edit of the job does not change a run's meaning. */
export const RunManifest = Type.Object({
  tolerate: Type.Object({ count: Limit, percent: Limit }),
  onEmpty: Type.Union([Type.Literal('ok'), Type.Literal('warn'), Type.Literal('fail')]),
});
export type RunManifest = Static<typeof RunManifest>;

export const Dependency = Type.Object({
  job: Type.String(),
  on: Type.Union([Type.Literal('success'), Type.Literal('acceptable'), Type.Literal('closed'), Type.Literal('failure')]),
});
export type Dependency = Static<typeof Dependency>;

export const JobManifest = Type.Object({
  name: Type.String(),
  /** Hash of the manifest without this field: a changed job has another revision. */
  revision: Type.String(),
  description: Type.String(),
  schedule: Type.Union([Schedule, Type.Null()]),
  after: Type.Array(Dependency),
  /** JSON Schema of the parameters, for people and forms. Validation is the planner's. */
  params: Type.Unknown(),
  concurrency: Limit,
  timeout: Limit,
  retry: Type.Object({
    attempts: Limit,
    backoff: Type.Union([Type.Literal('exponential'), Type.Literal('fixed')]),
    base: Limit,
    max: Limit,
  }),
  batch: Type.Object({ size: Limit }),
  /** The source has no stable order or cursor: its items are stored as a whole before any goes out. Missing: false. */
  spool: Type.Optional(Type.Boolean()),
  /** Whether the records of what was committed are in the default database; missing in manifests of older versions. */
  inbox: Type.Optional(Type.Union([Type.Literal('here'), Type.Literal('elsewhere')])),
  run: RunManifest,
});
export type JobManifest = Static<typeof JobManifest>;

const check = Compile(JobManifest);

/** The manifest in an entry of the bucket. Throws MR4001. */
export function readManifest(text: string): JobManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new MillraceError('MR4001', `manifest is not JSON (${messageOf(cause)})`, { cause });
  }
  if (check.Check(value)) return value;
  const [first] = check.Errors(value);
  throw new MillraceError('MR4001', `manifest${first?.instancePath ?? ''} ${first?.message ?? 'does not match its schema'}`);
}
