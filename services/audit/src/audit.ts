import {
  ChunkSettled,
  done,
  KIND_HEADER,
  type Milliseconds,
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
import type { AuditConfig } from './config.ts';
import { startCloseSpan, startSettleSpans, type TracedFact } from './fold-spans.ts';
import type { LedgerStore } from './ledger-store.ts';

/** Between folds of facts that come in numbers: each is a transaction of a dozen statements, however many facts it takes. */
const FOLD_EVERY: Milliseconds = 250;
/** Facts after which a run waits for nothing but its chunks. */
const SEALS: ReadonlySet<string> = new Set([RunPlanned.kind, RunPlanFailed.kind]);
/** How often facts that the stream did not take are offered again. */
const OUTBOX_EVERY = 5_000;
const PURGE_EVERY = 600_000;
/** Rows deleted in one statement, at most. */
const PURGE_STEP = 1_000;

/** Folds the facts of all services into the ledger and closes runs. */
export class Audit implements Service {
  readonly name = 'audit';
  readonly #platform: Platform;
  readonly #config: AuditConfig;
  readonly #store: LedgerStore;
  readonly #metrics: AuditMetrics;
  /** Chunks that the run nearest to its end waits for, of those in the last fold. */
  #awaited = Number.POSITIVE_INFINITY;
  #stopping: AbortController | undefined;
  #subscription: Subscription | undefined;
  #loops: Promise<unknown> | undefined;

  constructor(platform: Platform, config: AuditConfig, store: LedgerStore) {
    this.#platform = platform;
    this.#config = config;
    this.#store = store;
    this.#metrics = new AuditMetrics(store);
  }

  async start(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = new AbortController();
    this.#subscription = await this.#platform.events.subscribe(
      'millrace.facts.>',
      { durable: 'audit', batch: 512, prefetch: 512, linger: FOLD_EVERY, enough: (facts) => this.#mayClose(facts) },
      this.fold,
    );
    const { signal } = this.#stopping;
    this.#loops = Promise.all([
      this.#repeat(OUTBOX_EVERY, 'facts of closed runs wait for the broker', signal, () => this.#publishOutbox()),
      this.#repeat(PURGE_EVERY, 'old ledgers cannot be deleted', signal, () => this.#purge(signal)),
    ]);
  }

  async stop(): Promise<void> {
    if (!this.#stopping || this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    await this.#subscription?.drain();
    await this.#loops;
    this.#subscription = undefined;
  }

  ready(): readonly string[] {
    return [
      ...(this.#subscription ? [] : ['not started']),
      ...(this.#platform.events.connected() ? [] : ['no connection to the event broker']),
    ];
  }

  /** Such facts are folded at once: somebody may wait for the end of their run. */
  #mayClose(facts: readonly Delivery[]): boolean {
    return facts.length >= this.#awaited || facts.some(({ headers }) => SEALS.has(headers[KIND_HEADER] ?? ''));
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
    try {
      const { gained, awaited } = await this.#store.fold({ opened, planned, planFailed, settled });
      this.#metrics.gained(gained);
      this.#awaited = awaited;
    } catch (error) {
      if (!isFaultOfData(error)) throw error;
      if (deliveries.length === 1) return [park(`MR4001 ${messageOf(error)}`)];
      // One fact that the ledger cannot take must not hold up the others of its batch for ever.
      const half = deliveries.length >> 1;
      return [...(await this.fold(deliveries.slice(0, half))), ...(await this.fold(deliveries.slice(half)))];
    } finally {
      for (const span of spans) span.end();
    }
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

  /** Small steps, each a transaction of its own, so that nobody waits for them. */
  async #purge(signal: AbortSignal): Promise<void> {
    const { retention } = this.#config;
    if (retention === 0) return;
    while (!signal.aborted && (await this.#store.purge(retention, PURGE_STEP)) === 'more');
  }

  async #repeat(every: Milliseconds, trouble: string, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      try {
        await work();
      } catch (error) {
        this.#platform.log.warn({ err: messageOf(error) }, trouble);
      }
      await this.#platform.time.sleep(every, signal);
    }
  }
}

/** Not the database's or the network's: these facts will never fold. 22xxx: values, 23xxx: constraints; without a code: our own checks. */
function isFaultOfData(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === undefined ? error instanceof RangeError : typeof code === 'string' && /^2[23]...$/.test(code);
}

function take<Data extends { runId: string; job: string }>(
  read: { ok: true; message: { data: Data; trace: Trace } } | { ok: false; reason: string },
  into: { push(data: Data & { trace: Trace }): unknown },
  traced: TracedFact[],
): Verdict {
  if (!read.ok) return park(read.reason);
  const { data, trace } = read.message;
  into.push({ ...data, trace });
  traced.push({ runId: data.runId, job: data.job, trace, ofChunk: 'seq' in data });
  return done;
}
