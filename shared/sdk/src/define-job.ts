import { type JobManifest, MillraceError, shortHash } from '@millrace/core';
import { type DefinedJob, type FunctionSinkContext, type ItemsContext, type Job, markJob, type ProcessContext, type Sink } from './job.ts';
import { checkName, type JobOptions, readOptions } from './job-options.ts';
import { type ParamsOf, type ParamsSchema, paramsParser } from './params.ts';
import type { CheckReturned, CheckYielded, EffectOf, ItemOf } from './survives-json.ts';

/**
 * Defines a job: where its items come from, what is to be done with each, and where the result goes.
 *
 *     export const refresh = defineJob('refresh', { schedule: { cron: '0 * * * *' } })
 *       .items(async function* ({ query }) { … yield { id } … }, { key: (t) => t.id })
 *       .process(async (t, { skip, signal }) => … effect …)
 *       .commit(postgres((effects, tx) => tx.query(UPSERT, columns(effects))));
 *
 * The types of parameters, items and effects follow from one another in this order.
 * Throws MR1001 (name), MR1002 (cron), MR1003 (time zone) or MR1004 (any other option, unknown ones included).
 */
export function defineJob<Schema extends ParamsSchema | undefined = undefined>(
  name: string,
  options: JobOptions<Schema> = {},
): ItemsStep<ParamsOf<Schema>> {
  checkName(name);
  const read = readOptions(name, options);
  const parseParams = paramsParser(name, options.params);
  return {
    items: (source, itemOptions) => {
      mustBeFunction(name, 'items', source);
      mustBeFunction(name, 'items key', itemOptions?.key);
      for (const option of Object.keys(itemOptions)) {
        if (option !== 'key' && option !== 'spool')
          throw new MillraceError('MR1004', `unknown option "${option}" of items(…) of job "${name}"; known are key, spool`);
      }
      const { spool = false } = itemOptions;
      if (typeof spool !== 'boolean')
        throw new MillraceError('MR1004', `items spool of job "${name}" must be true or false, not ${JSON.stringify(spool)}`);
      return {
        process: (work) => {
          mustBeFunction(name, 'process', work);
          return {
            commit: (target) => {
              const sink = asSink(name, target);
              return markJob({
                name,
                manifest: withRevision({
                  ...read,
                  ...(spool ? { spool } : {}),
                  inbox: sink.kind === 'postgres' && sink.pool ? 'elsewhere' : 'here',
                }),
                parseParams,
                items: source as unknown as Job['items'],
                key: itemOptions.key as Job['key'],
                process: work as unknown as Job['process'],
                sink,
              });
            },
          };
        },
      };
    },
  };
}

export interface ItemsStep<Params> {
  /**
   * Streams the items of a run. Called by the planner, which stores what it yields in chunks: there may be any number.
   * Items are plain JSON data of at most 16 MiB; small ones travel better. `key` tells an item from the others of its run: a non-empty string or a
   * finite number; an item whose key was seen before in the run is planned once.
   */
  items<Yielded>(
    source: (
      ctx: ItemsContext<Params>,
    ) => AsyncIterable<Yielded & NoInfer<CheckYielded<Yielded>>> | Iterable<Yielded & NoInfer<CheckYielded<Yielded>>>,
    options: ItemsOptions<ItemOf<Yielded>>,
  ): ProcessStep<Params, ItemOf<Yielded>>;
}

export interface ItemsOptions<Item> {
  readonly key: (item: Item) => string | number;
  /**
   * For a source that may yield other items, or in another order, when it is asked again: everything is stored first and goes out
   * once the source has ended; a failure half-way discards what was stored and starts over, so that a run is one consistent pass.
   * Checkpoints have no effect then. Default false: items go out while the source still yields.
   */
  readonly spool?: boolean;
}

export interface ProcessStep<Params, Item> {
  /**
   * Turns one item into an effect: plain JSON data that says what is to be written. Runs in parallel, may run more than
   * once, and should change nothing itself. Return `skip(reason)` when there is nothing to do, `reject(reason)` when the
   * item is bad; throw when another try may help.
   */
  process<Returned>(
    work: (item: Item, ctx: ProcessContext<Params>) => Returned & NoInfer<CheckReturned<Returned>>,
  ): CommitStep<Item, EffectOf<Returned>>;
}

export interface CommitStep<Item, Effect> {
  /** Writes a batch of effects: `postgres(…)` for exactly-once, or a function for anything else (at least once, with `effectIds`). */
  commit(target: Sink<Effect> | ((effects: readonly Effect[], ctx: FunctionSinkContext) => unknown)): DefinedJob<Item, Effect>;
}

function asSink(job: string, target: unknown): Sink {
  if (typeof target === 'function') return { kind: 'function', name: 'function', write: target as Sink['write'] } as Sink;
  const sink = target as Partial<Sink> | null;
  if (
    typeof sink === 'object' &&
    sink !== null &&
    (sink.kind === 'postgres' || sink.kind === 'function') &&
    typeof sink.write === 'function'
  )
    return target as Sink;
  throw new MillraceError('MR1004', `commit of job "${job}" needs a sink such as postgres(…), or a function, not ${typeof target}`);
}

function mustBeFunction(job: string, what: string, value: unknown): void {
  if (typeof value !== 'function')
    throw new MillraceError('MR1004', `${what} of job "${job}" must be a function, not ${value === undefined ? 'missing' : typeof value}`);
}

function withRevision(manifest: Omit<JobManifest, 'revision'>): JobManifest {
  return { ...manifest, revision: shortHash(canonicalJson(manifest)) };
}

/** JSON with sorted fields: equal manifests have equal text, however they were written. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, field: unknown) =>
    typeof field === 'object' && field !== null && !Array.isArray(field)
      ? Object.fromEntries(Object.entries(field).sort(([a], [b]) => (a < b ? -1 : 1)))
      : field,
  );
}
