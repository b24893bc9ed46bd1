import {
  ChunkSettled,
  done,
  KIND_HEADER,
  messageOf,
  park,
  RunClosed,
  RunOpened,
  RunPlanFailed,
  RunPlanned,
  type Trace,
  type Verdict,
} from '@millrace/core';
import type { Delivery, Subscription } from '@millrace/messaging';
import type { Platform, Service } from '@millrace/runtime';
import { AuditMetrics } from './audit-metrics.ts';
import { startCloseSpan, startSettleSpans, type TracedFact } from './fold-spans.ts';
import type { LedgerStore } from './ledger-store.ts';

/** How often facts that the stream did not take are offered again. */
const OUTBOX_EVERY = 5_000;

/** Folds the facts of all services into the ledger and closes runs. */
export class Audit implements Service {
  readonly name = 'audit';
  readonly #platform: Platform;
  readonly #store: LedgerStore;
  readonly #metrics: AuditMetrics;
  #stopping: AbortController | undefined;
  #subscription: Subscription | undefined;
  #outbox: Promise<void> | undefined;

  constructor(platform: Platform, store: LedgerStore) {
    this.#platform = platform;
    this.#store = store;
    this.#metrics = new AuditMetrics(store);
  }

  async start(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = new AbortController();
    this.#subscription = await this.#platform.events.subscribe(
      'millrace.facts.>',
      { durable: 'audit', batch: 256, prefetch: 512 },
      this.fold,
    );
    this.#outbox = this.#offerOutbox(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    if (!this.#stopping || this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    await this.#subscription?.drain();
    await this.#outbox;
    this.#subscription = undefined;
  }

  ready(): readonly string[] {
    return [
      ...(this.#subscription ? [] : ['not started']),
      ...(this.#platform.events.connected() ? [] : ['no connection to the event broker']),
    ];
  }

  /** One transaction per batch; a fact that cannot be read is parked and holds nobody up. */
  fold = async (deliveries: readonly Delivery[]): Promise<readonly Verdict[]> => {
    const opened: (RunOpened & { trace: Trace })[] = [];
    const planned: RunPlanned[] = [];
    const planFailed: RunPlanFailed[] = [];
    const settled: ChunkSettled[] = [];
    const traced: TracedFact[] = [];
    const verdicts = deliveries.map((delivery): Verdict => {
      switch (delivery.headers[KIND_HEADER]) {
        case RunOpened.kind:
          return take(RunOpened.read(delivery), opened, traced);
        case RunPlanned.kind:
          return take(RunPlanned.read(delivery), planned, traced);
        case RunPlanFailed.kind:
          return take(RunPlanFailed.read(delivery), planFailed, traced);
        case ChunkSettled.kind:
          return take(ChunkSettled.read(delivery), settled, traced);
        case RunClosed.kind:
          return done;
        default:
          return park(`MR4001 no fact of the kind ${JSON.stringify(delivery.headers[KIND_HEADER])} is known`);
      }
    });
    const spans = startSettleSpans(traced, this.#platform.events.system);
    this.#metrics.gained(await this.#store.fold({ opened, planned, planFailed, settled }));
    for (const span of spans) span.end();
    await this.#publishOutbox();
    return verdicts;
  };

  async #publishOutbox(): Promise<void> {
    const { events, time } = this.#platform;
    const owed = await this.#store.outbox(100);
    if (owed.length === 0) return;
    const spans = owed.map(({ data, trace }) => startCloseSpan(data, trace, events.system));
    await events.publish(owed.map(({ data, trace }, i) => RunClosed.envelope(data, time.now(), spans[i]?.trace ?? trace)));
    for (const { span } of spans) span.end();
    this.#metrics.closed(owed.map(({ data }) => data));
    await this.#store.clearOutbox(owed.map(({ id }) => id));
  }

  async #offerOutbox(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#publishOutbox();
      } catch (error) {
        this.#platform.log.warn({ err: messageOf(error) }, 'facts of closed runs wait for the broker');
      }
      await this.#platform.time.sleep(OUTBOX_EVERY, signal);
    }
  }
}

function take<Data extends { runId: string; job: string }>(
  read: { ok: true; message: { data: Data; trace: Trace } } | { ok: false; reason: string },
  into: { push(data: Data & { trace: Trace }): unknown },
  traced: TracedFact[],
): Verdict {
  if (!read.ok) return park(read.reason);
  const { data, trace } = read.message;
  into.push({ ...data, trace });
  traced.push({ runId: data.runId, job: data.job, trace });
  return done;
}
