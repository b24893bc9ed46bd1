import { checkSchedule, type Duration, JOB_NAME, type JobManifest, type Milliseconds, MillraceError, parseDuration } from '@millrace/core';
import { isParamsSchema, jsonSchemaOf, type ParamsSchema } from './params.ts';

/** The options of `defineJob`. Durations are milliseconds or texts such as `'30s'`, `'15m'`, `'24h'`. */
export interface JobOptions<Schema extends ParamsSchema | undefined = undefined> {
  /** One sentence for people. Default: none. */
  readonly description?: string;
  /** When the job is due. Default: only when it is triggered, or after another job. */
  readonly schedule?: ScheduleOptions;
  /** Runs this job after each run of another job that ends as `on` says. */
  readonly after?: readonly AfterOptions[];
  /** Shape of the parameters of a triggered run: a TypeBox schema or any Standard Schema. Default: the job takes none. */
  readonly params?: Schema;
  /** Items of this job under way at once in one processor. Default 64. */
  readonly concurrency?: number;
  /** How long one item may take, at most 10 min: RabbitMQ gives up on whoever holds a message for 30. Default 30 s. */
  readonly timeout?: Duration;
  readonly retry?: RetryOptions;
  readonly batch?: {
    /** Items committed together, at most. Default 500. */
    readonly size?: number;
  };
  /** How many items may end badly before the run counts as failed; within either limit it is partial. Defaults: 0 and 0. */
  readonly tolerate?: { readonly count?: number; readonly percent?: number };
  /** What a run without items is. Default `ok`. */
  readonly onEmpty?: 'ok' | 'warn' | 'fail';
}

export interface ScheduleOptions {
  /** One cron expression or several, with 5 or 6 fields; the job is due whenever one of them is. */
  readonly cron: string | readonly string[];
  /** IANA name. Default `UTC`. */
  readonly timeZone?: string;
  /** What happens to a tick while a run of the job is open. Default `skip`. */
  readonly overlap?: 'skip' | 'allow' | 'bufferOne';
  /** Which ticks missed during a downtime are made up for, and how far back. Default `latest` within 24 h. */
  readonly catchUp?: 'latest' | 'all' | 'none' | { readonly mode?: 'latest' | 'all' | 'none'; readonly window?: Duration };
}

export interface AfterOptions {
  readonly job: string;
  /** Which end of the other run counts: `acceptable` is succeeded or partial, `closed` any. Default `acceptable`. */
  readonly on?: 'success' | 'acceptable' | 'closed' | 'failure';
}

export interface RetryOptions {
  /** Tries per item, the first included. Default 5. */
  readonly attempts?: number;
  /** Default `exponential`, with full jitter. */
  readonly backoff?: 'exponential' | 'fixed';
  /** Wait before the second try. Default 1 s. */
  readonly base?: Duration;
  /** Longest wait. Default 5 min. */
  readonly max?: Duration;
}

/** Throws MR1001. */
export function checkName(name: unknown): asserts name is string {
  if (typeof name !== 'string' || !JOB_NAME.test(name))
    throw new MillraceError('MR1001', typeof name === 'string' ? JSON.stringify(name) : String(name));
}

/** The manifest without its revision, defaults filled in. Throws MR1002, MR1003 or MR1004: no option is silently ignored. */
export function readOptions(job: string, given: unknown): Omit<JobManifest, 'revision'> {
  const o = new OptionReader(job, '', given);
  const known = ['description', 'schedule', 'after', 'params', 'concurrency', 'timeout', 'retry', 'batch', 'tolerate', 'onEmpty'];
  o.knowsOnly(known);
  const retry = o.group('retry', ['attempts', 'backoff', 'base', 'max']);
  const batch = o.group('batch', ['size']);
  const tolerate = o.group('tolerate', ['count', 'percent']);
  const params = o.value('params');
  if (params !== undefined && !isParamsSchema(params)) o.refuse('params', 'a TypeBox schema or a Standard Schema');
  return {
    name: job,
    description: o.text('description', ''),
    schedule: readSchedule(job, o),
    after: o.list('after').map((after) => {
      after.knowsOnly(['job', 'on']);
      const name = after.value('job');
      if (typeof name !== 'string' || !JOB_NAME.test(name)) after.refuse('job', 'the name of a job');
      return { job: name as string, on: after.choice('on', ['success', 'acceptable', 'closed', 'failure'], 'acceptable') };
    }),
    params: jsonSchemaOf(params as ParamsSchema | undefined),
    concurrency: o.whole('concurrency', 1, 64),
    timeout: o.duration('timeout', 30_000, { least: 1, most: 600_000, range: 'from 1 ms to 10m' }),
    retry: {
      attempts: retry.whole('attempts', 1, 5),
      backoff: retry.choice('backoff', ['exponential', 'fixed'], 'exponential'),
      base: retry.duration('base', 1_000),
      max: retry.duration('max', 300_000),
    },
    batch: { size: batch.whole('size', 1, 500) },
    run: {
      tolerate: { count: tolerate.whole('count', 0, 0), percent: tolerate.percent('percent', 0) },
      onEmpty: o.choice('onEmpty', ['ok', 'warn', 'fail'], 'ok'),
    },
  };
}

function readSchedule(job: string, options: OptionReader): JobManifest['schedule'] {
  if (options.value('schedule') === undefined) return null;
  const o = options.group('schedule', ['cron', 'timeZone', 'overlap', 'catchUp']);
  const cron = typeof o.value('cron') === 'string' ? [o.value('cron')] : o.value('cron');
  if (!Array.isArray(cron) || cron.length === 0 || !cron.every((expression) => typeof expression === 'string'))
    return o.refuse('cron', 'a cron expression or a list of them');
  const timeZone = o.text('timeZone', 'UTC');
  checkSchedule(job, cron, timeZone);
  const modes = ['latest', 'all', 'none'] as const;
  const short = typeof o.value('catchUp') === 'string';
  const catchUp = short ? undefined : o.group('catchUp', ['mode', 'window']);
  return {
    cron: [...cron],
    timeZone,
    overlap: o.choice('overlap', ['skip', 'allow', 'bufferOne'], 'skip'),
    catchUp: {
      mode: catchUp ? catchUp.choice('mode', modes, 'latest') : o.choice('catchUp', modes, 'latest'),
      window: catchUp ? catchUp.duration('window', 86_400_000) : 86_400_000,
    },
  };
}

/** Reads options of unknown make, and says which one is wrong, with its value. */
class OptionReader {
  readonly #job: string;
  readonly #path: string;
  readonly #given: Record<string, unknown>;

  constructor(job: string, path: string, given: unknown) {
    this.#job = job;
    this.#path = path;
    if (given !== undefined && (typeof given !== 'object' || given === null || Array.isArray(given))) {
      throw new MillraceError(
        'MR1004',
        `${path ? `option "${path.slice(0, -1)}"` : 'the options'} of job "${job}" must be an object, not ${show(given)}`,
      );
    }
    this.#given = (given ?? {}) as Record<string, unknown>;
  }

  value(name: string): unknown {
    return this.#given[name];
  }

  knowsOnly(names: readonly string[]): void {
    for (const name of Object.keys(this.#given)) {
      if (!names.includes(name))
        throw new MillraceError('MR1004', `unknown option "${this.#path}${name}" of job "${this.#job}"; known are ${names.join(', ')}`);
    }
  }

  group(name: string, names: readonly string[]): OptionReader {
    const group = new OptionReader(this.#job, `${this.#path}${name}.`, this.#given[name]);
    group.knowsOnly(names);
    return group;
  }

  list(name: string): OptionReader[] {
    const list = this.#given[name] ?? [];
    if (!Array.isArray(list)) return this.refuse(name, 'a list');
    return list.map((entry, i) => new OptionReader(this.#job, `${this.#path}${name}[${i}].`, entry));
  }

  text(name: string, otherwise: string): string {
    const value = this.#given[name] ?? otherwise;
    return typeof value === 'string' ? value : this.refuse(name, 'a text');
  }

  whole(name: string, least: number, otherwise: number): number {
    const value = this.#given[name] ?? otherwise;
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= least
      ? value
      : this.refuse(name, `a whole number from ${least}`);
  }

  percent(name: string, otherwise: number): number {
    const value = this.#given[name] ?? otherwise;
    return typeof value === 'number' && value >= 0 && value <= 100 ? value : this.refuse(name, 'a number from 0 to 100');
  }

  duration(name: string, otherwise: Milliseconds, bounds = { least: 0, most: Number.POSITIVE_INFINITY, range: '' }): Milliseconds {
    const duration = parseDuration(this.#given[name] ?? otherwise) ?? this.refuse(name, 'milliseconds or a text such as "30s" or "15m"');
    return duration >= bounds.least && duration <= bounds.most ? duration : this.refuse(name, bounds.range);
  }

  choice<Choice extends string>(name: string, choices: readonly Choice[], otherwise: Choice): Choice {
    const value = this.#given[name] ?? otherwise;
    return choices.find((choice) => choice === value) ?? this.refuse(name, `one of ${choices.map((choice) => `"${choice}"`).join(', ')}`);
  }

  refuse(name: string, expected: string): never {
    throw new MillraceError(
      'MR1004',
      `option "${this.#path}${name}" of job "${this.#job}" must be ${expected}, not ${show(this.#given[name])}`,
    );
  }
}

function show(value: unknown): string {
  return typeof value === 'bigint' || typeof value === 'symbol' || typeof value === 'function'
    ? String(value)
    : (JSON.stringify(value) ?? 'undefined');
}
