import Type, { type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { chunkQueue, factSubject, redriveSubject, tickSubject, triggerSubject } from './channels.ts';
import { messageOf } from './errors.ts';
import { chunkIdOf, shortHash } from './ids.ts';
import { RunManifest } from './manifest.ts';
import { decodeStates } from './outcomes.ts';
import type { Instant } from './time.ts';

/**
 * Messages as they travel: small headers and a JSON body. The kind and its version stand in the headers, so a reader
 * can refuse what it does not understand without parsing the body.
 */
export interface Envelope {
  /** Derived from what the message says: a message sent twice has one id. */
  readonly id: string;
  /** Where it goes: a JetStream subject or a RabbitMQ queue. */
  readonly subject: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** W3C trace context: `traceparent`, `tracestate`. Empty where nothing is traced. */
export type Trace = Readonly<Record<string, string>>;

export interface Message<Kind extends string = string, Data = unknown> {
  readonly id: string;
  readonly kind: Kind;
  readonly at: Instant;
  readonly data: Data;
  readonly trace: Trace;
}

const Id = Type.String({ minLength: 1, maxLength: 256 });
const Count = Type.Integer({ minimum: 0 });
const When = Type.Integer({ minimum: 0 });
const CountsSchema = Type.Object({
  applied: Count,
  skipped: Count,
  duplicate: Count,
  failed: Count,
  rejected: Count,
  cancelled: Count,
  expired: Count,
  indeterminate: Count,
});
const Params = Type.Record(Type.String(), Type.Unknown());

/** A schedule was due at `nominal`. */
export const Tick = define('tick', 1, Type.Object({ job: Id, nominal: When, revision: Id, emittedAt: When, clock: Id }), (t) => ({
  id: `${t.job}@${t.nominal}`,
  subject: tickSubject(t.job, t.nominal),
}));

/** Somebody asks for a run. The key makes it idempotent. */
export const Trigger = define(
  'trigger',
  1,
  Type.Object({
    job: Id,
    key: Type.String({ minLength: 1, maxLength: 128 }),
    requestedAt: When,
    params: Type.Optional(Params),
    at: Type.Optional(When),
    limit: Type.Optional(Type.Integer({ minimum: 1 })),
    requestedBy: Type.Optional(Type.String({ maxLength: 256 })),
  }),
  (t) => ({ id: `${t.job}@manual:${t.key}`, subject: triggerSubject(t.job) }),
);

/** Somebody asks for failed items to be tried again, as generation `generation` of their run. */
export const Redrive = define(
  'redrive',
  1,
  Type.Object({
    runId: Id,
    job: Id,
    generation: Type.Integer({ minimum: 1 }),
    requestedAt: When,
    group: Type.Optional(Id),
    keys: Type.Optional(Type.Array(Type.String())),
    requestedBy: Type.Optional(Type.String({ maxLength: 256 })),
  }),
  (r) => ({ id: `${r.runId}/redrive/${r.generation}`, subject: redriveSubject(r.job) }),
);

/** An item as it is planned, stored and sent: its key as the source gave it, and its data. */
const ChunkItem = Type.Tuple([Type.Union([Type.String({ minLength: 1 }), Type.Number()]), Type.Unknown()]);
export type ChunkItem = Static<typeof ChunkItem>;

/** The text of an item's key, which identifies the item: 1 and "1" are the same. */
export function keyOf([key]: ChunkItem): string {
  return String(key);
}

/** The keys of a stored list of items, in order. */
export function keysIn(items: string | Buffer): string[] {
  return (JSON.parse(items.toString()) as ChunkItem[]).map(keyOf);
}

/**
 * Work: items of one run. `size` is the number of items of the whole chunk; when only some of them travel (a retry, a
 * redrive) `positions` names their places in it.
 */
export const Chunk = define(
  'chunk',
  1,
  Type.Object({
    runId: Id,
    job: Id,
    generation: Count,
    seq: Count,
    attempt: Type.Integer({ minimum: 1 }),
    size: Type.Integer({ minimum: 1 }),
    openedAt: When,
    tickAt: When,
    tick: Id,
    params: Params,
    /** How often this attempt of the chunk has been sent; above 1 nobody knows what became of it. Absent: 1. */
    emits: Type.Optional(Type.Integer({ minimum: 1 })),
    positions: Type.Optional(Type.Array(Count)),
    /** The items are too big to travel: whoever processes them fetches them from the plan. */
    claim: Type.Optional(Type.Literal(true)),
    items: Type.Array(ChunkItem),
  }),
  (c) => ({ id: `${chunkIdOf(c.runId, c.generation, c.seq)}/${c.attempt}`, subject: chunkQueue(c.job) }),
);

/** What became of one failing item. `class` says who is to blame and whether another try may help. */
export const Failure = Type.Object({
  position: Count,
  key: Type.String(),
  fingerprint: Id,
  title: Type.String(),
  message: Type.String(),
  class: Type.Union([
    Type.Literal('transient'),
    Type.Literal('permanent'),
    Type.Literal('rejected'),
    Type.Literal('timeout'),
    Type.Literal('commit'),
    Type.Literal('poisoned'),
  ]),
});
export type Failure = Static<typeof Failure>;

const fact = { runId: Id, job: Id, generation: Count };

export const RunOpened = define(
  'run.opened',
  1,
  Type.Object({
    ...fact,
    tick: Id,
    nominal: Type.Union([When, Type.Null()]),
    cause: Type.Union([Type.Literal('tick'), Type.Literal('trigger'), Type.Literal('after'), Type.Literal('redrive')]),
    openedAt: When,
    manifest: RunManifest,
    params: Params,
  }),
  runFact,
);

/** The plan is sealed: `items` in chunks 0 … `chunks`−1, and `duplicates` that the source yielded again. */
export const RunPlanned = define(
  'run.planned',
  1,
  Type.Object({
    ...fact,
    chunks: Count,
    items: Count,
    duplicates: Count,
    plannedAt: When,
    /** For a redrive: the outcomes that the taken items had, which this generation replaces. */
    replaced: CountsSchema,
  }),
  runFact,
);

export const RunPlanFailed = define(
  'run.plan_failed',
  1,
  Type.Object({
    ...fact,
    chunks: Count,
    items: Count,
    duplicates: Count,
    failedAt: When,
    code: Type.String(),
    message: Type.String(),
  }),
  runFact,
);

/** Built from the committed inbox row, never from memory. `outcomes` is run-length text, see outcomes.ts. */
export const ChunkSettled = define(
  'chunk.settled',
  1,
  Type.Object({
    ...fact,
    seq: Count,
    attempt: Type.Integer({ minimum: 1 }),
    size: Type.Integer({ minimum: 1 }),
    outcomes: Type.String({ minLength: 2 }),
    failures: Type.Array(Failure),
    skips: Type.Record(Type.String(), Count),
    settledAt: When,
    /** The longest wait that a failing item asked for (Retry-After). */
    retryAfter: Type.Optional(Count),
    timing: Type.Object({ queued: Count, process: Count, commit: Count }),
  }),
  // One attempt may be told in parts, each with fewer pending items: the stream must not take them for one message.
  (s, kind) => ({
    id: `${chunkIdOf(s.runId, s.generation, s.seq)}/${s.attempt}/settled${s.outcomes.includes('p') ? `/${shortHash(s.outcomes).slice(0, 12)}` : ''}`,
    subject: factSubject(kind, s.job),
  }),
  (s) =>
    decodeStates(s.outcomes, s.size) ? undefined : `outcomes ${JSON.stringify(s.outcomes.slice(0, 80))} do not describe ${s.size} items`,
);

export const RunClosed = define(
  'run.closed',
  1,
  Type.Object({
    ...fact,
    tick: Id,
    nominal: Type.Union([When, Type.Null()]),
    verdict: Type.Union([
      Type.Literal('succeeded'),
      Type.Literal('partial'),
      Type.Literal('failed'),
      Type.Literal('cancelled'),
      Type.Literal('expired'),
    ]),
    planned: Count,
    counts: CountsSchema,
    openedAt: When,
    closedAt: When,
  }),
  runFact,
);

export type Tick = Static<typeof Tick.schema>;
export type Trigger = Static<typeof Trigger.schema>;
export type Redrive = Static<typeof Redrive.schema>;
export type Chunk = Static<typeof Chunk.schema>;
export type RunOpened = Static<typeof RunOpened.schema>;
export type RunPlanned = Static<typeof RunPlanned.schema>;
export type RunPlanFailed = Static<typeof RunPlanFailed.schema>;
export type ChunkSettled = Static<typeof ChunkSettled.schema>;
export type RunClosed = Static<typeof RunClosed.schema>;

export const FACTS = [RunOpened, RunPlanned, RunPlanFailed, ChunkSettled, RunClosed] as const;

/** A kind of message: its schema, its version, and how id and subject follow from its data. */
export interface MessageType<Kind extends string, Schema extends TSchema> {
  readonly kind: Kind;
  readonly version: number;
  readonly schema: Schema;
  /** Throws MR4001-worthy RangeErrors only for data of our own making: a bug. */
  envelope(data: Static<Schema>, at: Instant, trace?: Trace): Envelope;
  read(delivery: Pick<Envelope, 'id' | 'headers' | 'body'>): Read<Kind, Static<Schema>>;
}

/** A message, or why it cannot be understood: the consumer parks it with that reason. */
export type Read<Kind extends string = string, Data = unknown> =
  | { readonly ok: true; readonly message: Message<Kind, Data> }
  | { readonly ok: false; readonly reason: string };

export const KIND_HEADER = 'millrace-kind';
export const VERSION_HEADER = 'millrace-version';
export const AT_HEADER = 'millrace-at';
const TRACE_HEADERS = ['traceparent', 'tracestate'] as const;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

function define<Kind extends string, Schema extends TSchema>(
  kind: Kind,
  version: number,
  schema: Schema,
  address: (data: Static<Schema>, kind: string) => { id: string; subject: string },
  /** What the schema cannot say: why the data contradicts itself. */
  contradictionIn: (data: Static<Schema>) => string | undefined = () => undefined,
): MessageType<Kind, Schema> {
  const check = Compile(schema);
  return {
    kind,
    version,
    schema,
    envelope: (data, at, trace = {}) => ({
      ...address(data, kind),
      headers: headersOf(kind, version, at, trace),
      body: encoder.encode(JSON.stringify(data)),
    }),
    read(delivery) {
      const { headers } = delivery;
      if (headers[KIND_HEADER] !== kind) return refuse('MR4001', `kind ${JSON.stringify(headers[KIND_HEADER])}, expected "${kind}"`);
      if (headers[VERSION_HEADER] !== String(version))
        return refuse('MR4002', `${kind} version ${JSON.stringify(headers[VERSION_HEADER])}, this code reads ${version}`);
      let data: unknown;
      try {
        data = JSON.parse(decoder.decode(delivery.body));
      } catch (error) {
        return refuse('MR4001', `${kind} body is not JSON (${messageOf(error)})`);
      }
      if (!check.Check(data)) {
        const [first] = check.Errors(data);
        return refuse('MR4001', `${kind}${first?.instancePath ?? ''} ${first?.message ?? 'does not match its schema'}`);
      }
      const contradiction = contradictionIn(data as Static<Schema>);
      if (contradiction !== undefined) return refuse('MR4001', `${kind}: ${contradiction}`);
      const at = Number(headers[AT_HEADER]);
      const trace: Record<string, string> = {};
      for (const name of TRACE_HEADERS) if (headers[name] !== undefined) trace[name] = headers[name];
      return { ok: true, message: { id: delivery.id, kind, at: Number.isFinite(at) ? at : 0, data: data as Static<Schema>, trace } };
    },
  };
}

export function headersOf(kind: string, version: number, at: Instant, trace: Trace): Record<string, string> {
  return { [KIND_HEADER]: kind, [VERSION_HEADER]: String(version), [AT_HEADER]: String(at), ...trace };
}

function refuse(code: string, detail: string): { ok: false; reason: string } {
  return { ok: false, reason: `${code} ${detail}` };
}

function runFact(data: { runId: string; job: string; generation: number }, kind: string) {
  return { id: `${data.runId}/${data.generation}/${kind}`, subject: factSubject(kind, data.job) };
}
