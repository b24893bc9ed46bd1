import { MillraceError, whyNotJson } from '@millrace/core';
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { Clone, Convert, Default } from 'typebox/value';

/** Standard Schema v1 (standardschema.dev), as far as it is used: Zod, Valibot, ArkType and others implement it. */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | {
      readonly issues: readonly {
        readonly message: string;
        readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
      }[];
    };

/** A TypeBox schema (or plain JSON Schema made by it), or any Standard Schema. */
export type ParamsSchema = TSchema | StandardSchema;

export type ParamsOf<Schema> =
  Schema extends StandardSchema<infer Output> ? Output : Schema extends TSchema ? Static<Schema> : Record<string, never>;

export type ParseParams = (value: unknown) => Record<string, unknown>;

/** How a job reads its parameters. Every function throws MR1013 for values that do not match. */
export function paramsParser(job: string, schema: ParamsSchema | undefined): ParseParams {
  const fail = (detail: string): never => {
    throw new MillraceError('MR1013', `${detail} in the parameters of job "${job}"`);
  };
  const read = schema === undefined ? readNone : isStandard(schema) ? standardReader(schema) : typeboxReader(schema);
  return (value) => {
    const given = value ?? {};
    if (!isRecord(given)) return fail(`${JSON.stringify(value)} is no object`);
    const result = read(given, fail);
    if (!isRecord(result)) return fail(`${JSON.stringify(result)} is no object`);
    const why = whyNotJson(result);
    return why === undefined ? result : fail(`${why}, which does not survive JSON,`);
  };
}

/** The JSON Schema shown to people, or null when the schema cannot be written as one. */
export function jsonSchemaOf(schema: ParamsSchema | undefined): unknown {
  return schema === undefined || isStandard(schema) ? null : JSON.parse(JSON.stringify(schema));
}

export function isParamsSchema(value: unknown): value is ParamsSchema {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
    ? isStandard(value as ParamsSchema) || isRecord(value)
    : false;
}

type Fail = (detail: string) => never;

function readNone(value: Record<string, unknown>, fail: Fail): unknown {
  const [first] = Object.keys(value);
  return first === undefined ? value : fail(`"${first}" is unknown: the job declares no parameters; it stands`);
}

function standardReader(schema: StandardSchema) {
  return (value: unknown, fail: Fail): unknown => {
    const result = schema['~standard'].validate(value);
    if (result instanceof Promise) return fail('the schema answers with a promise, which is not supported,');
    if (!result.issues) return result.value;
    const [issue] = result.issues;
    const path = (issue?.path ?? []).map((step) => `/${String(typeof step === 'object' ? step.key : step)}`).join('');
    return fail(`${path || '/'} ${issue?.message ?? 'is invalid'}`);
  };
}

function typeboxReader(schema: TSchema) {
  const check = Compile(schema);
  return (value: unknown, fail: Fail): unknown => {
    const filled = Default(schema, Clone(value));
    if (check.Check(filled)) return filled;
    // Parameters from a command line are all text: `--param limit=5` means the number when the schema wants one.
    const converted = Convert(schema, Clone(filled));
    if (check.Check(converted)) return converted;
    const [first] = check.Errors(filled);
    return fail(`${first?.instancePath || '/'} ${first?.message ?? 'does not match the schema'}`);
  };
}

function isStandard(schema: ParamsSchema): schema is StandardSchema {
  return typeof (schema as Partial<StandardSchema>)['~standard']?.validate === 'function';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
