import { type Instant, JOBS_BUCKET, type JobManifest, messageOf, Tick, tickOf, tickSubject } from '@millrace/core';
import type { Bucket } from '@millrace/messaging';
import { type Platform, type Service, startMessagingSpan, traceOf } from '@millrace/runtime';
import { ROOT_CONTEXT, type Span, trace } from '@opentelemetry/api';
import type { ClockConfig } from './config.ts';
import { type DueTick, dueTicks, type Emitted } from './domain/due-ticks.ts';
import { readManifests } from './domain/read-manifests.ts';

/** What a clock needs of the platform. */
export type ClockPlatform = Pick<Platform, 'instance' | 'time' | 'log' | 'events'>;

const tracer = trace.getTracer('@millrace/clock');

/** Between tries to publish. Longer than a moment, because the publisher itself waits for a broker that is away. */
const RETRY_AFTER = 1_000;

/**
 * Publishes a tick whenever a job is due, and never waits for work. It owns nothing: any number of clocks may run,
 * each publishes every tick, and the subject of a tick takes one message.
 *
 *   read manifests ──▶ due ticks ──▶ publish, once per subject ──▶ sleep until the next is due, or the next look
 *        ▲  kept while the bucket cannot be read     │ failed: nothing is advanced, tried again       │
 *        └───────────────────────────────────────────┴────────────────────────────────────────────────┘
 */
export class Clock implements Service {
  readonly name = 'clock';
  readonly #platform: ClockPlatform;
  readonly #config: ClockConfig;
  #bucket: Bucket | undefined;
  #stopping: AbortController | undefined;
  #loop: Promise<void> = Promise.resolve();

  #jobs: readonly JobManifest[] | undefined;
  #lastEmitted: ReadonlyMap<string, Emitted> = new Map();
  /** Reasons already logged, by job: a broken manifest is worth one line, not one every two seconds. */
  #refused: ReadonlyMap<string, string> = new Map();
  /** What keeps the clock from ticking. */
  #trouble: string | undefined;

  constructor(platform: ClockPlatform, config: ClockConfig) {
    this.#platform = platform;
    this.#config = config;
  }

  async start(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = new AbortController();
    this.#bucket = this.#platform.events.bucket(JOBS_BUCKET);
    this.#loop = this.#run(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping?.abort();
    await this.#loop;
    this.#stopping = undefined;
  }

  ready(): readonly string[] {
    if (!this.#stopping || this.#stopping.signal.aborted) return ['not started'];
    const reasons: string[] = [];
    if (!this.#platform.events.connected()) reasons.push('the event broker is away');
    if (!this.#jobs) reasons.push('job manifests not read yet');
    if (this.#trouble) reasons.push(this.#trouble);
    return reasons;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { time } = this.#platform;
    let lookAt: Instant = time.now();
    while (!signal.aborted) {
      // Counted down on both sides, so that a wall clock that steps back cannot put off the next look.
      if (time.now() >= lookAt || lookAt - time.now() > this.#config.poll) {
        await this.#look(signal);
        lookAt = time.now() + this.#config.poll;
      }
      if (signal.aborted) return;
      const wakeAt = await this.#tick(signal);
      await time.sleep(Math.max(0, Math.min(wakeAt, lookAt) - time.now()), signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { log } = this.#platform;
    try {
      const entries = await unlessAborted(this.#bucket?.entries() ?? Promise.resolve(new Map<string, string>()), signal);
      if (!entries) return;
      const { jobs, refused } = readManifests(entries);
      for (const [job, reason] of refused) {
        if (this.#refused.get(job) !== reason) log.error({ job, reason }, 'a job has no ticks: its manifest cannot be used');
      }
      this.#jobs = jobs;
      this.#refused = refused;
    } catch (error) {
      log.warn({ err: error }, `job manifests cannot be read, the last known ones stay in force: ${messageOf(error)}`);
    }
  }

  /** Publishes what is due and says when to look again. */
  async #tick(signal: AbortSignal): Promise<Instant> {
    const { time, log, events, instance } = this.#platform;
    const now = time.now();
    const { ticks, wakeAt, lastEmitted } = dueTicks(this.#jobs ?? [], this.#lastEmitted, now);
    if (ticks.length > 0) {
      // A try that fails ends no span, and a span that is not ended is never exported.
      const spans = ticks.map((tick) => startSpan(tick, events.system));
      try {
        const published = events.publish(
          ticks.map((tick, i) => envelopeOf(tick, now, instance, spans[i] as Span)),
          { once: true, signal },
        );
        if (
          (await unlessAborted(
            published.then(() => true),
            signal,
          )) === undefined
        )
          return now;
      } catch (error) {
        if (signal.aborted) return now;
        if (!this.#trouble) log.warn({ err: error, ticks: ticks.length }, `ticks cannot be published, trying again: ${messageOf(error)}`);
        this.#trouble = `ticks cannot be published: ${messageOf(error)}`;
        return now + RETRY_AFTER;
      }
      for (const span of spans) span.end();
      for (const { job, nominal } of ticks) log.debug({ job, nominal }, 'tick');
    }
    this.#trouble = undefined;
    this.#lastEmitted = lastEmitted;
    return wakeAt;
  }
}

function envelopeOf({ job, nominal, revision }: DueTick, now: Instant, clock: string, span: Span) {
  return Tick.envelope({ job, nominal, revision, emittedAt: now, clock }, now, traceOf(span));
}

/** The root of a run's trace. Of several clocks one publishes the tick that is kept; the others' spans stay alone. */
function startSpan({ job, nominal }: DueTick, system: string): Span {
  return startMessagingSpan(tracer, {
    system,
    operation: 'tick',
    kind: 'send',
    destination: tickSubject(job),
    parent: ROOT_CONTEXT,
    attributes: { 'messaging.message.id': `${job}@${nominal}`, 'millrace.job': job, 'millrace.tick': tickOf(nominal) },
  });
}

/** The result, or undefined as soon as `signal` aborts: then nobody waits for the promise any more. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const abort = () => resolve(undefined);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
