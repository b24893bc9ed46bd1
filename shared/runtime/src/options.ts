import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { MillraceError, messageOf, parseDuration } from '@millrace/core';

/** What kind of text an option takes. `path` is resolved: from the environment against the working directory, from a file against that file. */
export type OptionKind = 'string' | 'integer' | 'duration' | 'url' | 'boolean' | 'path';

interface ValueOfKind {
  readonly string: string;
  readonly integer: number;
  /** Milliseconds. */
  readonly duration: number;
  readonly url: string;
  readonly boolean: boolean;
  readonly path: string;
}

interface Declaration<Kind extends OptionKind = OptionKind> {
  /** Name of the environment variable. */
  readonly env: string;
  readonly kind: Kind;
  readonly description: string;
  /** Never shown; may also be given as a file: `<env>_FILE`. */
  readonly secret?: boolean;
  /** The only values allowed. */
  readonly choices?: readonly string[];
  /** Bounds of an integer, both included. */
  readonly min?: number;
  readonly max?: number;
}

/** A declared option. Without a default its value may be undefined. */
export interface Option<Value = unknown> extends Declaration {
  readonly default?: Value;
  /** Carries the type of the value; never set. */
  readonly value?: Value;
}

export type Options = Readonly<Record<string, Option>>;
export type ValuesOf<Declared extends Options> = {
  readonly [Key in keyof Declared]: Declared[Key] extends Option<infer Value> ? Value : never;
};

export function option<const Choice extends string>(
  declared: Declaration<'string'> & { readonly choices: readonly Choice[]; readonly default: Choice },
): Option<Choice>;
export function option<Kind extends OptionKind>(
  declared: Declaration<Kind> & { readonly default: ValueOfKind[Kind] },
): Option<ValueOfKind[Kind]>;
export function option<Kind extends OptionKind>(declared: Declaration<Kind>): Option<ValueOfKind[Kind] | undefined>;
export function option(declared: Declaration & { readonly default?: unknown }): Option {
  return Object.freeze({ ...declared });
}

export function isOption(value: unknown): value is Option {
  return typeof value === 'object' && value !== null && 'env' in value && 'kind' in value && 'description' in value;
}

/** Where values come from; the environment wins over the file. */
export interface OptionSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Values of the configuration file, by the names of the options. */
  readonly file?: Readonly<Record<string, unknown>>;
  /** What to call the file in problems, and the folder its paths are relative to. */
  readonly fileName?: string;
  readonly directory?: string;
}

/** All values, or one MR2001 that lists every problem. An empty environment variable counts as not set. */
export function readOptions<Declared extends Options>(declared: Declared, sources: OptionSources): ValuesOf<Declared> {
  const { values, problems } = collectOptions(declared, sources);
  refuseProblems(problems);
  return values;
}

export function refuseProblems(problems: readonly string[]): void {
  if (problems.length === 1) throw new MillraceError('MR2001', problems[0] ?? '');
  if (problems.length > 1)
    throw new MillraceError('MR2001', `${problems.length} problems\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
}

/** As `readOptions`, for callers that gather the problems of several sets before they refuse. */
export function collectOptions<Declared extends Options>(
  declared: Declared,
  sources: OptionSources,
): { values: ValuesOf<Declared>; problems: string[] } {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [name, one] of Object.entries(declared)) {
    try {
      values[name] = readOption(name, one, sources);
    } catch (problem) {
      problems.push(messageOf(problem));
    }
  }
  return { values: values as ValuesOf<Declared>, problems };
}

function readOption(
  name: string,
  one: Option,
  { env, file, fileName = 'the configuration file', directory = '.' }: OptionSources,
): unknown {
  const text = env[one.env] || undefined;
  const path = one.secret ? env[`${one.env}_FILE`] || undefined : undefined;
  if (text !== undefined && path !== undefined) throw new Error(`${one.env} and ${one.env}_FILE are both set; set one of them`);
  if (text !== undefined) return parse(one, text, one.env, '.');
  if (path !== undefined) return parse(one, secretIn(one, path), `${one.env}_FILE`, '.');
  const value = file?.[name];
  return value === undefined || value === null ? one.default : parse(one, value, `${name} in ${fileName}`, directory);
}

function secretIn(one: Option, path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throw new Error(`${one.env}_FILE: ${messageOf(cause)}`);
  }
}

function parse(one: Option, value: unknown, from: string, directory: string): unknown {
  const refuse = (expected: string) => new Error(`${from} is ${shown(one, value)}; expected ${expected}`);
  if (one.choices && !one.choices.includes(String(value))) throw refuse(`one of ${one.choices.join(', ')}`);
  switch (one.kind) {
    case 'string':
    case 'path':
      if (typeof value !== 'string' || value === '') throw refuse('text');
      return one.kind === 'path' ? resolve(directory, value) : value;
    case 'integer': {
      const number = typeof value === 'string' && /^-?\d{1,15}$/.test(value.trim()) ? Number(value) : value;
      const { min = 0, max = Number.MAX_SAFE_INTEGER } = one;
      if (!Number.isSafeInteger(number) || (number as number) < min || (number as number) > max) {
        throw refuse(`a whole number ${max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`}`);
      }
      return number;
    }
    case 'duration': {
      const duration = parseDuration(typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value);
      if (duration === undefined) throw refuse('a duration such as 200ms, 30s, 15m or 24h');
      return duration;
    }
    case 'url':
      if (typeof value !== 'string' || !URL.canParse(value)) throw refuse('a URL');
      return value;
    case 'boolean':
      if (value === true || value === 'true' || value === '1') return true;
      if (value === false || value === 'false' || value === '0') return false;
      throw refuse('true or false');
    default:
      throw new Error(`unknown kind ${String(one.kind satisfies never)}`);
  }
}

/** A value fit for messages and `config print`: of a secret only that it is set; of a secret URL all but user and password. */
export function shown(one: Pick<Option, 'secret' | 'kind'>, value: unknown): string {
  if (!one.secret) return JSON.stringify(value) ?? String(value);
  if (one.kind !== 'url' || typeof value !== 'string' || !URL.canParse(value)) return '(hidden)';
  const { protocol, host, pathname } = new URL(value);
  return host ? `${protocol}//${host}${pathname}` : '(hidden)';
}
