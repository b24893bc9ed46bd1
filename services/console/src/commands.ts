import {
  type ErrorCode,
  formatInstant,
  type Instant,
  type Milliseconds,
  MillraceError,
  manualTick,
  parseInstant,
  Redrive,
  redrivableFor,
  redriveSubject,
  runIdOf,
  shortHash,
  splitRunId,
  type Time,
  TRIGGER_KEY,
  Trigger,
  triggerSubject,
} from '@millrace/core';
import type { EventBroker, Publisher } from '@millrace/messaging';
import { parentOf, startMessagingSpan, traceOf } from '@millrace/runtime';
import { trace } from '@opentelemetry/api';
import type { Ledger } from './ledger.ts';
import type { Registry } from './registry.ts';
import type { Requester } from './requester.ts';

const tracer = trace.getTracer('@millrace/console');

export interface TriggerRequest {
  readonly job: string;
  readonly key?: string;
  readonly params?: Record<string, unknown>;
  /** ISO 8601 with a zone: the instant that `tick.at` shall have. */
  readonly at?: string;
  readonly limit?: number;
}

export interface RedriveSelection {
  readonly group?: string;
  readonly keys?: readonly string[];
}

/** What people ask of the system. Only messages leave from here; the planner decides. */
export class Commands {
  readonly #ledger: Ledger;
  readonly #publisher: Publisher & Pick<EventBroker, 'system'>;
  readonly #registry: Registry;
  readonly #time: Time;
  readonly #random: () => number;
  readonly #inboxRetention: Milliseconds;
  readonly #checkParams: (job: string, params: Record<string, unknown>) => void;

  constructor(
    ledger: Ledger,
    publisher: Publisher & Pick<EventBroker, 'system'>,
    registry: Registry,
    time: Time,
    random: () => number,
    checkParams: (job: string, params: Record<string, unknown>) => void = () => undefined,
    inboxRetention: Milliseconds = 0,
  ) {
    this.#inboxRetention = inboxRetention;
    this.#ledger = ledger;
    this.#publisher = publisher;
    this.#registry = registry;
    this.#time = time;
    this.#random = random;
    this.#checkParams = checkParams;
  }

  /** Asks for a run; a key used before names the run it made then. Throws MR1013, MR2004, MR2008, MR2010, MR3013. */
  async trigger(request: TriggerRequest, requester: Requester): Promise<{ runId: string; key: string }> {
    const { job } = request;
    if (!(await this.#registry.list()).some((manifest) => manifest.name === job)) throw new MillraceError('MR2004', `"${job}"`);
    this.#checkParams(job, request.params ?? {});
    const now = this.#time.now();
    const key =
      request.key ??
      `${new Date(now).toISOString().slice(0, 19).replace(/[-:]/g, '')}-${shortHash(`${now} ${this.#random()}`).slice(0, 8)}`;
    if (!TRIGGER_KEY.test(key)) throw new MillraceError('MR2010', JSON.stringify(key));
    const at = request.at === undefined ? undefined : instantOf(request.at, 'MR2008');
    const span = this.#startSpan('trigger', triggerSubject(job), job, requester);
    await this.#publisher.publish([
      Trigger.envelope(
        {
          job,
          key,
          requestedAt: now,
          requestedBy: requester.name,
          ...(request.params ? { params: request.params } : {}),
          ...(at === undefined ? {} : { at }),
          ...(request.limit === undefined ? {} : { limit: request.limit }),
        },
        now,
        traceOf(span),
      ),
    ]);
    span.end();
    return { runId: runIdOf(job, manualTick(key)), key };
  }

  /** Asks for the failing items of a closed run to be tried again. Throws MR2005, MR2006, MR2007, MR3013, MR4004. */
  async redrive(
    runId: string,
    selection: RedriveSelection,
    requester: Requester,
  ): Promise<{ runId: string; generation: number; items: number }> {
    const run = await this.#ledger.findRun(runId);
    const job = splitRunId(runId)?.job;
    if (!run || !job) throw new MillraceError('MR2005', `"${runId}"`);
    if (run.state !== 'closed') throw new MillraceError('MR2006', `"${runId}" is ${run.state}`);
    if (this.#time.now() - run.openedAt > redrivableFor(this.#inboxRetention))
      throw new MillraceError('MR4004', `"${runId}", opened ${formatInstant(run.openedAt)}`);
    const all = run.counts.failed + run.counts.rejected + run.counts.expired + run.counts.cancelled;
    const selected = selection.group !== undefined || selection.keys !== undefined;
    const items = all === 0 ? 0 : selected ? await this.#ledger.countFailures(runId, selection) : all;
    if (items === 0)
      throw new MillraceError(
        'MR2007',
        selected && all > 0 ? `none of the ${all} failing item(s) of "${runId}" is in the selection` : `"${runId}" has no failing items`,
      );
    const now = this.#time.now();
    const generation = run.generation + 1;
    const span = this.#startSpan('redrive', redriveSubject(job), job, requester);
    await this.#publisher.publish([
      Redrive.envelope(
        {
          runId,
          job,
          generation,
          requestedAt: now,
          requestedBy: requester.name,
          ...(selection.group === undefined ? {} : { group: selection.group }),
          ...(selection.keys ? { keys: [...selection.keys] } : {}),
        },
        now,
        traceOf(span),
      ),
    ]);
    span.end();
    return { runId, generation, items };
  }

  #startSpan(operation: string, destination: string, job: string, { trace: parent }: Requester) {
    return startMessagingSpan(tracer, {
      system: this.#publisher.system,
      operation,
      kind: 'send',
      destination,
      parent: parentOf(parent),
      attributes: { 'millrace.job': job },
    });
  }
}

function instantOf(text: string, code: ErrorCode): Instant {
  const instant = parseInstant(text);
  if (instant === undefined) throw new MillraceError(code, `${JSON.stringify(text)} is no instant; write it as 2026-11-24T00:10:00Z`);
  return instant;
}
