import { type Envelope, type Milliseconds, Redrive, Trigger } from '@millrace/core';
import type { Platform, Service } from '@millrace/runtime';
import { Audit } from '../../services/audit/src/audit.ts';
import { Clock } from '../../services/clock/src/clock.ts';
import { Planner } from '../../services/planner/src/planner.ts';
import { Processor } from '../../services/processor/src/processor.ts';
import { SimEventBroker } from './event-broker.ts';
import { Faults, type Role } from './faults.ts';
import { InboxTables, inboxOf } from './inbox-tables.ts';
import { checkInvariants } from './invariants.ts';
import { LedgerTables } from './ledger-tables.ts';
import { Locks } from './locks.ts';
import { Mutants } from './mutants.ts';
import { PlanTables } from './plan-tables.ts';
import { SimProcess, type Surroundings } from './process.ts';
import { type Profile, profileOf, REPLICAS } from './profiles.ts';
import { Random } from './random.ts';
import { Scheduler } from './scheduler.ts';
import { ledgerStoreOf, planStoreOf } from './stores.ts';
import { LATE_UNTIL, TROUBLE, Trouble } from './trouble.ts';
import { watchTables } from './watch-tables.ts';
import { SimWorkBroker } from './work-broker.ts';
import { NOON, Workload } from './workload.ts';

/** Once the trouble is over, everything must be done within this. */
const PATIENCE: Milliseconds = 15 * 60_000;
const MOST_EVENTS = 400_000;
export interface Verdict {
  readonly seed: number;
  readonly profile: string;
  readonly hash: string;
  readonly events: number;
  readonly virtual: Milliseconds;
  readonly runs: number;
  readonly items: number;
  readonly violations: readonly string[];
  /** The end of the log, when something is wrong. */
  readonly tail: readonly string[];
  readonly faults: Faults;
}

/** One seed: a small installation of several processes of each service, its brokers and databases, and what befalls them. */
export class World {
  readonly seed: number;
  readonly profile: Profile;
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly faults: Faults;
  readonly workload: Workload;
  readonly plan: PlanTables;
  readonly ledger: LedgerTables;
  readonly inbox: InboxTables;
  readonly work: SimWorkBroker;
  readonly events: SimEventBroker;
  /** Redrives that were asked for, by run. */
  readonly redriven = new Set<string>();
  readonly complaints: string[] = [];
  readonly stalls = { reset: 0, told: 0, unconfirmed: 0 };
  readonly #trouble: Trouble;
  readonly #mutants: Mutants;
  readonly #processes: SimProcess[] = [];
  readonly #chunkItems: number;
  /** Clocks that look rarely do not notice that a broker has lost everything in between. */
  readonly #poll: Milliseconds;
  readonly #bookLocks = new Locks();
  #launched = 0;

  constructor(seed: number, mutants = new Mutants(), echo = false) {
    this.seed = seed;
    this.profile = profileOf(seed);
    this.random = new Random(seed);
    this.scheduler = new Scheduler(NOON - 2_000, new Random(seed, 1), echo);
    this.faults = new Faults(new Random(seed, 2));
    this.workload = new Workload(new Random(seed, 3));
    this.#mutants = mutants;
    if (this.profile.retention !== undefined) this.workload.hurry();
    this.#chunkItems = this.random.int(3, 7);
    this.#poll = this.random.pick([3_000, 8_000]);
    const now = () => Math.floor(this.scheduler.now);
    this.plan = new PlanTables(now, mutants);
    this.ledger = new LedgerTables(now, mutants);
    this.inbox = new InboxTables(now, mutants);
    this.work = new SimWorkBroker(this.scheduler, new Random(seed, 4), this.faults, mutants);
    this.events = new SimEventBroker(this.scheduler, new Random(seed, 5), this.faults);
    watchTables(this);
    this.#trouble = new Trouble(this, this.#processes);
  }

  async run(): Promise<Verdict> {
    const unhandled = (reason: unknown) => this.complaints.push(`I5 unhandled rejection: ${String((reason as Error)?.stack ?? reason)}`);
    process.on('unhandledRejection', unhandled);
    this.scheduler.log(`seed ${this.seed}, ${this.profile.name}`);
    this.#trouble.plant();
    // The jobs have been deployed before: ticks count from now on, whatever befalls the planners that start.
    const before = new SimProcess('earlier deployment', 'planner', this.#surroundings());
    for (const { manifest } of this.workload.load(before).values()) this.plan.registerJob(manifest, Math.floor(this.scheduler.now));
    for (const role of Object.keys(REPLICAS) as Role[])
      for (let i = 0; i < REPLICAS[role]; i++) this.#launch(role, this.random.int(0, 1_500));
    this.#askForRuns();
    const deadline = this.scheduler.now + TROUBLE + PATIENCE;
    let done = false;
    let quiet = 0;
    const look = () => {
      // Twice, so that nothing was merely between two places.
      quiet = this.#isAtRest() ? quiet + 1 : 0;
      done = quiet >= 2 || this.scheduler.now > deadline;
      if (!done) this.scheduler.after(quiet > 0 ? 50 : 500, look);
    };
    this.scheduler.after(3_000, look);
    await this.scheduler.run(() => done || this.scheduler.events > MOST_EVENTS || this.complaints.length > 0);
    // Rejections that nobody handled are told after the microtasks.
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', unhandled);
    const violations = [...this.complaints, ...(quiet >= 2 ? checkInvariants(this) : this.complaints.length > 0 ? [] : this.#stuck())];
    for (const one of this.#processes) one.forget();
    let items = 0;
    for (const run of this.plan.runs.values()) items += run.items;
    return {
      seed: this.seed,
      profile: this.profile.name,
      hash: this.scheduler.hash,
      events: this.scheduler.events,
      virtual: this.scheduler.now - NOON + 2_000,
      runs: this.plan.runs.size,
      items,
      violations,
      tail: violations.length > 0 ? this.scheduler.tail : [],
      faults: this.faults,
    };
  }

  #surroundings(): Surroundings {
    const { scheduler, random, faults } = this;
    const complain = (what: string) => {
      // A processor says so of work that comes back after the retention of inboxes.
      if (this.profile.retention !== undefined && what.includes('older than inboxes are kept')) return;
      this.complaints.push(`I5 ${what}`);
    };
    return { scheduler, random, faults, complain };
  }

  #launch(role: Role, delay: Milliseconds): void {
    this.scheduler.after(delay, () => {
      const one = new SimProcess(`${role}-${++this.#launched}`, role, this.#surroundings());
      if (this.profile.skew && role === 'clock' && this.random.chance(0.5)) one.skew = this.random.int(-600_000, 600_000);
      this.#processes.push(one);
      one.whenGone.push((dead) => {
        if (!dead) return;
        this.#processes.splice(this.#processes.indexOf(one), 1);
        this.#launch(role, this.random.int(200, 4_000));
      });
      one.service = this.#serviceOf(one);
      this.scheduler.log(`${one.name} starts`);
      one.service.start().catch((error: unknown) => one.crash(`at its start: ${String(error)}`));
    });
  }

  #serviceOf(one: SimProcess): Service {
    const { role, time, log } = one;
    const jobs = role === 'planner' || role === 'processor' ? this.workload.load(one) : new Map();
    const query = <Row>() => one.call('source.query', () => ({ rows: [] as Row[], rowCount: 0 }));
    const platform: Platform = {
      instance: one.name,
      time,
      random: this.random.next,
      log,
      database: { kind: 'pg', query, transaction: notSimulated, queryAndCopy: notSimulated, close: async () => {} },
      work: this.work.connect(one),
      events: this.events.connect(one),
      jobs,
    };
    switch (role) {
      case 'clock':
        return new Clock(platform, { poll: this.#poll });
      case 'planner':
        return new Planner(
          platform,
          {
            window: this.random.pick([2, 5, 50]),
            chunkItems: this.#chunkItems,
            largestItem: 1_024,
            planning: 1,
            scanEvery: 15_000,
            reconcileEvery: 5_000,
            lease: 3_000,
            retention: 0,
            inboxRetention: this.profile.retention ?? 0,
            firstTick: 'next',
            alone: false,
          },
          planStoreOf(this.plan, one, this.#mutants),
        );
      case 'processor':
        return new Processor({
          jobs,
          work: platform.work,
          events: platform.events,
          openInbox: () => one.call('inbox.open', () => inboxOf(this.inbox, one, this.#mutants)),
          time,
          random: platform.random,
          log,
          config: { prefetch: 2, children: 1, childHeap: 0, budget: 300_000, inboxRetention: this.profile.retention ?? 0 },
        });
      case 'audit':
        return new Audit(platform, { retention: 0 }, ledgerStoreOf(this.ledger, this.#bookLocks, one, this.#mutants));
      default:
        return role satisfies never;
    }
  }

  /** A person who triggers runs, asks for redrives, and repeats it until it shows. */
  #askForRuns(): void {
    for (const { job, key } of this.workload.triggers) {
      const ask = () => {
        if (this.plan.runs.has(`${job}@manual:${key}`)) return;
        this.#send(Trigger.envelope({ job, key, requestedAt: Math.floor(this.scheduler.now) }, Math.floor(this.scheduler.now)));
        this.scheduler.after(10_000, ask);
      };
      this.scheduler.after(this.random.int(0, 6_000), () => {
        ask();
        if (this.random.chance(0.4)) ask();
      });
    }
  }

  #send(message: Envelope): void {
    this.scheduler.log(`somebody asks ${message.id}`);
    this.events.append(message);
  }

  /** Asks for the redrive of runs that closed with failures; true when one was asked for. */
  #redriveWhatFailed(): boolean {
    if (!this.workload.redriven) return false;
    let asked = false;
    for (const run of this.plan.runs.values()) {
      if (run.state !== 'closed' || this.redriven.has(run.runId)) continue;
      if (!run.chunks.some(({ outcomes }) => /[xr]/.test(outcomes ?? ''))) continue;
      this.workload.mended = true;
      this.redriven.add(run.runId);
      asked = true;
      const ask = () => {
        if (run.generation >= 1) return;
        this.#send(
          Redrive.envelope(
            { runId: run.runId, job: run.job, generation: 1, requestedAt: Math.floor(this.scheduler.now) },
            Math.floor(this.scheduler.now),
          ),
        );
        this.scheduler.after(10_000, ask);
      };
      ask();
      if (this.random.chance(0.5)) ask();
    }
    return asked;
  }

  /** Nothing is left to do, for anybody. */
  #isAtRest(): boolean {
    if (this.scheduler.now < (this.profile.retention === undefined ? NOON + 9_000 : LATE_UNTIL)) return false;
    for (const run of this.plan.runs.values()) if (run.state !== 'closed' || run.owed) return false;
    for (const run of this.workload.triggeredRuns) if (!this.plan.runs.has(run)) return false;
    const decided = this.plan.ticks.get('timed');
    for (const tick of this.workload.ticks) if (!decided?.has(tick)) return false;
    for (const { nominal, result } of decided?.values() ?? [])
      if (result === 'ran' && !this.plan.runs.has(this.workload.tickRun(nominal).replace('timed@', 'behind@'))) return false;
    if (this.ledger.outbox.size > 0 || this.work.unsettled > 0 || this.events.unsettled > 0) return false;
    if (this.#redriveWhatFailed()) return false;
    for (const runId of this.redriven) if (this.plan.runs.get(runId)?.generation !== 1) return false;
    for (const book of this.ledger.books.values()) if (book.state !== 'closed') return false;
    return (
      this.#trouble.over ||
      (!this.profile.deploys &&
        !this.profile.skew &&
        this.profile.roles.length + (this.profile.work?.length ?? 0) + (this.profile.events?.length ?? 0) === 0)
    );
  }

  #stuck(): string[] {
    const open = [...this.plan.runs.values()]
      .filter(({ state, owed }) => state !== 'closed' || owed)
      .map(
        (run) => `${run.runId} is ${run.state}, its chunks ${run.chunks.map((c) => `${c.seq}:${c.state}:${c.outcomes ?? '?'}`).join(' ')}`,
      );
    const missing = this.workload.triggeredRuns.filter((run) => !this.plan.runs.has(run)).map((run) => `${run} was never opened`);
    const ticks = this.workload.ticks
      .filter((tick) => !this.plan.ticks.get('timed')?.has(tick))
      .map((tick) => `tick ${tick} was never decided`);
    const books = [...this.ledger.books.values()]
      .filter(({ state }) => state !== 'closed')
      .map(({ runId, state }) => `the book of ${runId} is ${state}`);
    const left = `${this.work.unsettled} chunks and ${this.events.unsettled} events unsettled, ${this.ledger.outbox.size} in the outbox`;
    return [`I4 stuck: ${[...open, ...missing, ...ticks, ...books, left].join('; ')}`];
  }
}

const notSimulated = () => Promise.reject(new Error('not simulated: stores are'));
