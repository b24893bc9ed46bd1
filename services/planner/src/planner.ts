import { chunkQueue, JOBS_BUCKET, latestDue, messageOf, redrivableFor, retry, type Verdict } from '@millrace/core';
import type { Delivery, Handler, Subscription } from '@millrace/messaging';
import type { Platform, Service } from '@millrace/runtime';
import { metrics } from '@opentelemetry/api';
import type { Job } from 'millrace';
import { Admissions } from './admissions.ts';
import type { PlannerConfig } from './config.ts';
import { Confirmations } from './confirmations.ts';
import { DispatchSpans } from './dispatch-spans.ts';
import { Dispatcher, ensureQueue } from './dispatcher.ts';
import { affordable, type Budget, earn, openBudget, spend } from './domain/budget.ts';
import { ChunkBuffers } from './domain/chunk-buffers.ts';
import { ChunkSizes } from './domain/chunk-sizes.ts';
import { EMIT_LIMIT, patienceWith, REEMITS } from './domain/lost-work.ts';
import { enoughSettled, SETTLE_EVERY } from './domain/settle-pace.ts';
import { Intake, type Reservation } from './intake.ts';
import { withLease } from './lease.ts';
import { Loops } from './loops.ts';
import { payOwedFacts } from './owed-facts.ts';
import { planRun } from './plan-run.ts';
import type { PlanningRun, PlanStore } from './plan-store.ts';

/** A run that is settled and not closed for this long is told again. */
const TELL_AFTER = 30_000;
const PURGE_EVERY = 600_000;
/** Rows deleted in one statement, at most. */
const PURGE_STEP = 500;
/** The table is told what the broker has confirmed this often: well before a claim lapses. */
const CONFIRM_EVERY = 2_000;
/** Before a message that could not be handled is looked at again. */
const MESSAGE_PAUSE = 1_000;

/**
 * Admits ticks, triggers and dependents as runs, streams their items into chunks, keeps the broker's window filled,
 * and looks after what got lost. Any number of planners share one database.
 *
 *   intake (messages → rows)   planning (runs → chunks)   dispatch (chunks → broker)   care (scan, owed facts, lost work)
 */
export class Planner implements Service {
  readonly name = 'planner';
  readonly #platform: Platform;
  readonly #config: PlannerConfig;
  readonly #store: PlanStore;
  readonly #jobs: readonly Job[];
  readonly #names: readonly string[];
  readonly #dispatcher: Dispatcher;
  readonly #intake: Intake;
  readonly #admissions: Admissions;
  readonly #dispatchSpans: DispatchSpans;
  readonly #confirmations: Confirmations;
  readonly #sizes = new ChunkSizes();
  readonly #buffers = new ChunkBuffers();
  /** What may be sent again because it may be lost. */
  #reemits: Budget;
  readonly #stalled = new Map<string, number>();
  #stopping: AbortController | undefined;
  #loops: Promise<void>[] = [];
  #subscriptions: Subscription[] = [];
  readonly #planning: Loops;
  /** Wait for whatever changes. */
  readonly #caring: Loops;
  /** Wait for nothing but their time. */
  readonly #timed: Loops;
  /** Runs that were admitted here and taken at once. */
  readonly #admitted: PlanningRun[] = [];
  #started = false;

  constructor(platform: Platform, config: PlannerConfig, store: PlanStore) {
    this.#platform = platform;
    this.#config = config;
    this.#store = store;
    this.#jobs = [...platform.jobs.values()];
    this.#names = [...platform.jobs.keys()];
    this.#reemits = openBudget(REEMITS, platform.time.now());
    this.#planning = new Loops(platform);
    this.#caring = new Loops(platform);
    this.#timed = new Loops(platform);
    this.#admissions = new Admissions(store);
    this.#dispatchSpans = new DispatchSpans(platform.work.system);
    this.#confirmations = new Confirmations(store);
    this.#dispatcher = new Dispatcher({
      store,
      work: platform.work,
      time: platform.time,
      random: platform.random,
      log: platform.log,
      spans: this.#dispatchSpans,
      confirmed: this.#confirmations.add,
      jobs: this.#names,
      window: config.window,
    });
    this.#intake = new Intake({
      store,
      jobs: platform.jobs,
      random: platform.random,
      log: platform.log,
      admissions: this.#admissions,
      system: platform.events.system,
      opened: () => this.#planning.wakeOne(),
      reserve: () => this.#reserve(),
      changed: () => this.#changed(),
      redrivable: Math.min(redrivableFor(config.inboxRetention), redrivableFor(config.retention)),
      settled: this.#dispatcher.settled,
      sizes: this.#sizes,
    });
    metrics
      .getMeter('@millrace/planner')
      .createObservableGauge('millrace_oldest_item_age_seconds', {
        description: 'Age of the oldest run that still owes outcomes.',
        unit: 's',
      })
      .addCallback(async (result) => {
        const ages = await store.oldestOpen();
        for (const job of this.#names) result.observe(ages.get(job) ?? 0, { job });
      });
  }

  async start(): Promise<void> {
    if (this.#stopping) return;
    const stopping = new AbortController();
    this.#stopping = stopping;
    const { signal } = stopping;
    const { events } = this.#platform;
    if (this.#config.alone) await this.#store.expireLeases();
    await this.#register();
    const each =
      (handle: (delivery: Delivery) => Promise<Verdict>): Handler =>
      async (deliveries) => {
        const verdicts = [];
        // Each for itself: a message that fails must not take back its neighbours for ever.
        for (const delivery of deliveries)
          verdicts.push(await handle(delivery).catch((error: unknown) => retry(MESSAGE_PAUSE, messageOf(error))));
        return verdicts;
      };
    this.#subscriptions = [
      await events.subscribe('millrace.ticks.>', { durable: 'planner-ticks', batch: 16 }, each(this.#intake.tick)),
      await events.subscribe('millrace.triggers.>', { durable: 'planner-triggers', batch: 16 }, each(this.#intake.trigger)),
      await events.subscribe('millrace.control.redrive.>', { durable: 'planner-redrives' }, each(this.#intake.redrive)),
      await events.subscribe('millrace.facts.run.closed.>', { durable: 'planner-closed', batch: 16 }, each(this.#intake.closed)),
      await events.subscribe(
        'millrace.facts.chunk.settled.>',
        {
          durable: 'planner-settled',
          batch: 128,
          prefetch: 512,
          linger: SETTLE_EVERY,
          enough: (facts) => enoughSettled(facts.length, this.#config.window),
        },
        this.#intake.settled,
      ),
    ];
    this.#loops = [
      this.#dispatcher.run(signal),
      this.#planning.run('planning', 1_000, signal, () => this.#planNext(signal), this.#config.planning),
      this.#caring.run('owed facts', 1_000, signal, () => payOwedFacts(this.#store, events, this.#platform.time.now(), signal)),
      this.#timed.run('scan', this.#config.scanEvery, signal, () => this.#scan()),
      this.#timed.run('confirmations', CONFIRM_EVERY, signal, () => this.#confirmations.flush()),
      this.#timed.run('purge', PURGE_EVERY, signal, () => this.#purge(signal)),
      this.#timed.run('reconcile', this.#config.reconcileEvery, signal, () => this.#reconcile()),
      this.#timed.run('look at the event broker', this.#config.reconcileEvery, signal, () => this.#tellManifests()),
    ];
    this.#started = true;
  }

  async stop(): Promise<void> {
    const stopping = this.#stopping;
    if (!stopping || stopping.signal.aborted) return;
    stopping.abort();
    await Promise.all(this.#subscriptions.map((subscription) => subscription.drain()));
    await Promise.all(this.#loops);
    await this.#confirmations.flush().catch(() => undefined);
    for (const run of this.#admitted.splice(0)) await this.#store.postponePlanning(run, 0).catch(() => undefined);
    this.#started = false;
  }

  ready(): readonly string[] {
    const { work, events } = this.#platform;
    return [
      ...(this.#started ? [] : ['not started']),
      ...(work.connected() ? [] : ['no connection to the work broker']),
      ...(events.connected() ? [] : ['no connection to the event broker']),
    ];
  }

  /** Makes the loaded jobs known: to the database, to the clocks and consoles, to the broker. */
  async #register(): Promise<void> {
    const now = await this.#store.now();
    const { firstTick } = this.#config;
    for (const { manifest } of this.#jobs) {
      const { schedule } = manifest;
      const latest = schedule && firstTick !== 'next' ? latestDue(schedule, 0, firstTick) : undefined;
      await this.#store.registerJob(manifest, latest === undefined ? now : latest - 1);
    }
    await this.#tellManifests();
    for (const name of this.#names) await ensureQueue(name, this.#store, this.#platform.work, this.#platform.log);
  }

  async #planNext(signal: AbortSignal): Promise<void> {
    for (;;) {
      const run = this.#admitted.shift() ?? (await this.#store.claimRun(this.#names, this.#config.lease));
      const job = run && this.#platform.jobs.get(run.job);
      if (!run || !job || signal.aborted) return;
      // Where one run waits there may be more.
      this.#planning.wakeOne();
      const { work, events, time, database, log } = this.#platform;
      const store = this.#store;
      const result = await withLease(run, { store, time, lease: this.#config.lease }, signal, (held) =>
        planRun(
          run,
          job,
          {
            store,
            work,
            buffers: this.#buffers,
            events,
            time,
            query: (sql, params) => database.query(sql, params),
            window: this.#config.window,
            chunkItems: () => this.#sizes.itemsFor(job.name, job.manifest.concurrency, this.#config.chunkItems),
            largestItem: this.#config.largestItem,
            spans: this.#dispatchSpans,
            confirmed: this.#confirmations.add,
            wakeDispatcher: this.#dispatcher.wake,
          },
          held,
        ),
      );
      log.debug({ run: run.runId, result }, 'planning ended');
      this.#changed();
    }
  }

  /** Decides ticks that no clock has told of: a lost or wiped event broker is a delay, never a missed run. */
  async #scan(): Promise<void> {
    const now = await this.#store.now();
    for (const { manifest } of this.#jobs) {
      if ((await this.#admissions.admit(manifest, now)).opened.length > 0) this.#changed();
    }
    // Last, as it needs the brokers.
    await this.#register();
  }

  /**
   * Makes the jobs known to clocks and consoles. An event broker that does not know a job has never heard of it, or was wiped, and
   * with it facts that nobody may have read: what runs of that job is told again, before the job is, so that nobody takes the
   * broker for sound when this planner dies in between.
   */
  async #tellManifests(): Promise<void> {
    const { events, log } = this.#platform;
    const bucket = events.bucket(JOBS_BUCKET);
    const known = await bucket.entries();
    const missing = this.#names.filter((name) => !known.has(name));
    if (missing.length > 0) {
      const runs = await this.#store.tellAgain(missing, 0);
      let chunks = 0;
      for (const name of missing) chunks += await this.#store.resetEmitted(name);
      if (runs.length + chunks > 0) log.warn({ runs: runs.length, chunks }, 'the event broker has lost what it held; facts are told again');
    }
    for (const { manifest } of this.#jobs) {
      const text = JSON.stringify(manifest);
      if (known.get(manifest.name) !== text) await bucket.put(manifest.name, text);
    }
    if (missing.length > 0) this.#changed();
  }

  async #reconcile(): Promise<void> {
    const { work, log, time } = this.#platform;
    for (const { manifest } of this.#jobs) {
      const { name } = manifest;
      const queue = await work.inspect(chunkQueue(name));
      if (queue === undefined) {
        await ensureQueue(name, this.#store, work, log);
        continue;
      }
      this.#reemits = earn(REEMITS, this.#reemits, this.#dispatcher.takeSent(), time.now());
      const patience = patienceWith(queue, manifest, this.#sizes.itemsFor(name, manifest.concurrency, this.#config.chunkItems));
      const { reset, stalled } = await this.#store.resetStalled(name, patience, EMIT_LIMIT, affordable(this.#reemits));
      this.#reemits = spend(this.#reemits, reset);
      if (reset > 0) log.warn({ job: name, chunks: reset }, 'chunks without an answer are sent again');
      if (stalled > 0 && stalled !== this.#stalled.get(name))
        log.error({ job: name, chunks: stalled }, `stalled: chunks were sent ${EMIT_LIMIT + 1} times and never answered`);
      this.#stalled.set(name, stalled);
    }
    await this.#confirmations.flush();
    const unconfirmed = await this.#store.releaseUnconfirmed(this.#names);
    if (unconfirmed > 0) log.warn({ chunks: unconfirmed }, 'chunks that were claimed and never sent are due again');
    for (const run of await this.#store.tellAgain(this.#names, TELL_AFTER))
      log.warn({ run }, 'settled but not closed: its facts are sent again');
    this.#changed();
  }

  /** Small steps, each a transaction of its own, so that nobody waits for them. */
  async #purge(signal: AbortSignal): Promise<void> {
    const { retention } = this.#config;
    while (retention > 0 && !signal.aborted && (await this.#store.purge(retention, PURGE_STEP)) === 'more');
  }

  #changed(): void {
    this.#dispatcher.wake();
    this.#caring.wakeAll();
    this.#planning.wakeOne();
  }

  /** Keeps one of the loops that rest for a run that is about to be admitted. */
  #reserve(): Reservation | undefined {
    const wake = this.#stopping?.signal.aborted ? undefined : this.#planning.reserve();
    return (
      wake && {
        lease: this.#config.lease,
        take: (run) => {
          if (run) this.#admitted.push(run);
          wake();
        },
      }
    );
  }
}
