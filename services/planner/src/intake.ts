import {
  ChunkSettled,
  done,
  factSubject,
  type Milliseconds,
  manualTick,
  messageOf,
  park,
  Redrive,
  RunClosed,
  redriveSubject,
  retry,
  runIdOf,
  Tick,
  Trigger,
  tickOf,
  tickSubject,
  triggerSubject,
  type Verdict,
} from '@millrace/core';
import type { Delivery } from '@millrace/messaging';
import type { Logger } from '@millrace/runtime';
import type { Job } from 'millrace';
import type { Admissions } from './admissions.ts';
import { AdmitSpans } from './admit-spans.ts';
import type { ChunkSizes } from './domain/chunk-sizes.ts';
import { retryDelay } from './domain/retry-delay.ts';
import type { NewRun, NextSending, PlanningRun, PlanStore } from './plan-store.ts';

export interface IntakeParts {
  readonly store: PlanStore;
  readonly jobs: ReadonlyMap<string, Job>;
  readonly random: () => number;
  readonly log: Logger;
  readonly admissions: Admissions;
  readonly system: string;
  /** Called when runs were opened: only planning waits for that. */
  readonly opened: () => void;
  /** Makes room for a run that is planned here at once; undefined when nobody is free. */
  readonly reserve: () => Reservation | undefined;
  /** Called when a row has been written that planning, dispatch or owed facts may wait for. */
  readonly changed: () => void;
  /** How old a run may be to be redriven. */
  readonly redrivable: Milliseconds;
  /** Called when chunks were settled; `again`: items of theirs are to be tried again. Only dispatch waits for that. */
  readonly settled: (again: boolean) => void;
  /** Told how long the chunks of each job took. */
  readonly sizes: ChunkSizes;
}

/** Somebody waits for a run to plan, and is to be told which, or that there is none after all. */
export interface Reservation {
  readonly lease: Milliseconds;
  take(run: PlanningRun | undefined): void;
}

/** The fact of a closed run may overtake those of its last chunks. If they are lost, the reconciler asks for them again. */
const BEHIND = 100;

/** Turns messages into rows. Every handler is idempotent: a message that comes again finds its row. */
export class Intake {
  readonly #store: PlanStore;
  readonly #jobs: ReadonlyMap<string, Job>;
  readonly #random: () => number;
  readonly #log: Logger;
  readonly #opened: () => void;
  readonly #reserve: () => Reservation | undefined;
  readonly #changed: () => void;
  readonly #redrivable: Milliseconds;
  readonly #settled: (again: boolean) => void;
  readonly #sizes: ChunkSizes;
  readonly #admissions: Admissions;
  /** Which broker the messages come from, for spans. */
  readonly #system: string;

  constructor({ store, jobs, random, log, admissions, system, opened, reserve, changed, settled, sizes, redrivable }: IntakeParts) {
    this.#redrivable = redrivable;
    this.#store = store;
    this.#admissions = admissions;
    this.#system = system;
    this.#jobs = jobs;
    this.#random = random;
    this.#log = log;
    this.#opened = opened;
    this.#reserve = reserve;
    this.#changed = changed;
    this.#settled = settled;
    this.#sizes = sizes;
  }

  tick = async (delivery: Delivery): Promise<Verdict> => {
    const read = Tick.read(delivery);
    if (!read.ok) return park(read.reason);
    const { job: name, nominal, revision } = read.message.data;
    const job = this.#jobs.get(name);
    // A tick of a job or schedule that this planner does not hold; the scan of the one that does decides.
    if (!job || job.manifest.revision !== revision) return done;
    const early = nominal - (await this.#store.now());
    // The fastest of many clocks must not start runs ahead of time. However little it is: what is not due yet is not admitted below,
    // and a tick that was acknowledged all the same would wait for the next scan.
    if (early > 0) return retry(early, 'the tick is not due yet by the clock of the database');
    const { trace } = read.message;
    const own = runIdOf(name, tickOf(nominal));
    const { opened } = await this.#admissions.admit(job.manifest, nominal, {
      message: { system: this.#system, destination: tickSubject(name) },
      parent: (runId) => (runId === own ? trace : undefined),
    });
    if (opened.length > 0) this.#opened();
    return done;
  };

  trigger = async (delivery: Delivery): Promise<Verdict> => {
    const read = Trigger.read(delivery);
    if (!read.ok) return park(read.reason);
    const { data } = read.message;
    const job = this.#jobs.get(data.job);
    if (!job) return park(`MR2004 no planner has loaded the job "${data.job}"`);
    let params: Record<string, unknown>;
    try {
      params = job.parseParams(data.params ?? {});
    } catch (error) {
      return park(messageOf(error));
    }
    const tick = manualTick(data.key);
    const runId = runIdOf(data.job, tick);
    const spans = new AdmitSpans({
      job: data.job,
      cause: 'trigger',
      message: { system: this.#system, destination: triggerSubject(data.job) },
      parent: () => read.message.trace,
    });
    const opened = await this.#admit({
      runId,
      tick,
      nominal: data.at ?? null,
      cause: 'trigger',
      manifest: job.manifest,
      params,
      limit: data.limit,
      trace: spans.traceOf(runId),
    });
    if (opened) spans.end([runId]);
    return done;
  };

  /** A planner that is free takes the run as it admits it: one commit less before the first item. */
  async #admit(run: NewRun): Promise<boolean> {
    const reservation = this.#reserve();
    if (!reservation) {
      const opened = await this.#store.admitRun(run);
      if (opened) this.#opened();
      return opened;
    }
    let claimed: PlanningRun | undefined;
    try {
      claimed = await this.#store.admitClaimed(run, reservation.lease);
    } finally {
      reservation.take(claimed);
    }
    return claimed !== undefined;
  }

  redrive = async (delivery: Delivery): Promise<Verdict> => {
    const read = Redrive.read(delivery);
    if (!read.ok) return park(read.reason);
    const { runId, job, generation, group, keys } = read.message.data;
    const spans = new AdmitSpans({
      job,
      cause: 'redrive',
      message: { system: this.#system, destination: redriveSubject(job) },
      parent: () => read.message.trace,
    });
    const result = await this.#store.redrive({ runId, generation, group, keys, maxAge: this.#redrivable, trace: spans.traceOf(runId) });
    if (result === 'opened') spans.end([runId]);
    if (result === 'unknown') return park(`MR2005 ${runId}`);
    if (result === 'open') return retry(1_000, `MR2006 ${runId}`);
    if (result === 'empty') return park(`MR2007 ${runId}`);
    if (result === 'old') return park(`MR4004 ${runId}`);
    this.#changed();
    return done;
  };

  settled = async (deliveries: readonly Delivery[]): Promise<readonly Verdict[]> => {
    const reads = deliveries.map((delivery) => ChunkSettled.read(delivery));
    const chunks = reads.flatMap((read) => (read.ok ? [{ ...read.message.data, next: this.#next(read.message.data) }] : []));
    await this.#store.settleChunks(chunks);
    for (const read of reads) {
      if (!read.ok || read.message.data.attempt > 1 || read.message.data.generation > 0) continue;
      const { job, size, timing } = read.message.data;
      this.#sizes.learn(job, size, timing.process);
    }
    this.#settled(chunks.some(({ next }) => next !== undefined));
    return reads.map((read) => (read.ok ? done : park(read.reason)));
  };

  closed = async (delivery: Delivery): Promise<Verdict> => {
    const read = RunClosed.read(delivery);
    if (!read.ok) return park(read.reason);
    const fact = read.message.data;
    const waiting = [...this.#jobs.values()].filter(({ manifest }) => manifest.after.some(({ job }) => job === fact.job));
    const dependents = waiting.map(({ name, manifest }) => {
      const runId = runIdOf(name, fact.tick);
      // A trace of its own, or a chain of jobs would be one endless trace; the link leads back to the cause.
      const spans = new AdmitSpans({
        job: name,
        cause: 'after',
        message: { system: this.#system, destination: factSubject(RunClosed.kind, fact.job) },
        links: [read.message.trace],
      });
      const run: NewRun = {
        runId,
        tick: fact.tick,
        nominal: fact.nominal,
        cause: 'after',
        manifest,
        params: {},
        limit: undefined,
        trace: spans.traceOf(runId),
      };
      return { run, spans };
    });
    const opened = await this.#store.closeRun(
      fact,
      dependents.map(({ run }) => run),
    );
    if (opened === 'behind') return retry(BEHIND, 'chunks of the run have not settled here yet');
    for (const { spans } of dependents) spans.end(opened);
    for (const run of opened) this.#log.debug({ run, cause: fact.runId }, 'dependency met');
    this.#changed();
    return done;
  };

  #next(settled: ChunkSettled): NextSending | undefined {
    // Pending items were handed back for want of time: they go again at once and have spent no attempt.
    if (settled.outcomes.includes('p')) return { in: 0, attempt: settled.attempt };
    if (!settled.outcomes.includes('f')) return undefined;
    const policy = this.#jobs.get(settled.job)?.manifest.retry ?? DEFAULT_RETRY;
    return { in: retryDelay(policy, settled.attempt, this.#random(), settled.retryAfter), attempt: settled.attempt + 1 };
  }
}

/** For a chunk of a job that has left the code meanwhile. */
const DEFAULT_RETRY = { attempts: 5, backoff: 'exponential', base: 1_000, max: 300_000 } as const;
