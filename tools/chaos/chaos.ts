import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '@millrace/core';
import type { Database } from '@millrace/postgres';
import { waitFor } from '@millrace/testing';
import { type Calls, callsIn } from './calls.ts';
import { diagnose } from './diagnose.ts';
import { FAULTS, type Fault, NOBODY, subjectOf, type World } from './faults.ts';
import { Fleet } from './fleet.ts';
import { checkInvariants } from './invariants.ts';
import type { Load } from './items.ts';
import { parkedAt } from './parked.ts';
import { flowOf, Progress } from './progress.ts';
import { Random } from './random.ts';
import type { Scenario } from './scenarios.ts';
import { seconds } from './seconds.ts';
import { openSite, type Site } from './site.ts';
import { Watch } from './watch.ts';

export interface Plan {
  readonly name: string;
  readonly scenario: Scenario;
  readonly seed: number;
  /** All runs must be closed this many milliseconds after the first one was asked for. */
  readonly within: number;
  readonly standstill: number;
  readonly alarm: number;
  /** One entry per process. */
  readonly services: readonly string[];
  readonly say: (line: string) => void;
  /** Leave the logs of the services where they are. */
  readonly keep: boolean;
}

export interface Report {
  /** Empty: every invariant held. */
  readonly violations: readonly string[];
  readonly fired: ReadonlyMap<string, number>;
  /** Milliseconds from the end of a single fault until every stage moved again. */
  readonly recovery: ReadonlyMap<string, readonly number[]>;
  readonly items: number;
  readonly runs: number;
  /** From the first trigger to the last closed run. */
  readonly seconds: number;
  /** The longest time in which no chunk was settled although the run was open. */
  readonly longestPause: number;
  readonly calls: Calls;
  /** The most that one process of a service took, in MiB, and how much one process grew during a memory alarm. */
  readonly memory: ReadonlyMap<string, number>;
  readonly alarmGrowth: number | undefined;
  readonly refusedStarts: number;
  /** 1: faults came in the rhythm of the scenario; 2: half as often, because the machine is that slow. */
  readonly slowness: number;
  readonly logs: string;
}

/** A chunk is worked on twice when its processor is killed; more often only when that happens again and again. */
const MOST_CALLS = 8;
const MEAN_CALLS = 2;
const ALARM_GROWTH_MIB = 64;
const MEMORY_MIB = 512;
/** Milliseconds in which a whole fleet starts on a machine of two cores that has nothing else to do. */
const USUAL_START = 8_000;
/** Chunks that must still be open for a fault to have something to disturb. */
const ENOUGH = 24;

export async function runChaos(plan: Plan): Promise<Report> {
  const site = await openSite({ smallDisks: plan.scenario.smallDisks });
  let passed = false;
  try {
    const report = await new Chaos(plan, site).run();
    passed = report.violations.length === 0;
    return report;
  } finally {
    await site.close(plan.keep || !passed);
  }
}

class Chaos {
  readonly #plan: Plan;
  readonly #site: Site;
  readonly #fleet: Fleet;
  readonly #world: World;
  readonly #violations: string[] = [];
  readonly #fired = new Map<string, number>();
  readonly #recovery = new Map<string, number[]>();
  readonly #runs = new Map<string, Load>();
  /** The last fault of each server. */
  readonly #queues = new Map<string, Promise<unknown>>();
  readonly #over = new AbortController();
  #alarmGrowth: number | undefined;
  #watch: Watch | undefined;
  /** How much longer than usual services take to start here and now: faults come more slowly by this factor, so that there is somebody to hit. */
  #slowness = 1;

  constructor(plan: Plan, site: Site) {
    this.#plan = plan;
    this.#site = site;
    const env = plan.scenario.itemsKill ? { ...site.env, NODE_OPTIONS: '--max-old-space-size=160' } : site.env;
    const mayDie = (service: string) => plan.scenario.itemsKill === true && service === 'processor';
    this.#fleet = new Fleet({ services: plan.services, program: site.program, env, logs: site.logs, mayDie });
    this.#world = { site, fleet: this.#fleet, random: new Random(plan.seed), standstill: plan.standstill, alarm: plan.alarm };
  }

  async run(): Promise<Report> {
    const { say, scenario, within } = this.#plan;
    const migrated = await this.#site.command('migrate');
    if (migrated.code !== 0) throw new Error(migrated.output);
    const db = await this.#site.database();
    this.#fleet.start();
    const launched = performance.now();
    const ready = async () =>
      this.#fleet.allStarted() && (await db.query(`select 1 from planner.jobs where job = 'chaos'`)).rows.length > 0;
    await waitFor(ready, { timeout: 180_000, interval: 100, what: 'all services to start' });
    this.#slowness = Math.max(1, (performance.now() - launched) / USUAL_START);
    await this.#trigger();
    say(`${this.#plan.name}: ${scenario.about}; ${scenario.items} items, seed ${this.#plan.seed}`);
    const began = performance.now();
    const progress = new Progress(db);
    this.#watch = new Watch(this.#fleet, progress, say);
    const watching = [this.#watch.until(this.#over.signal), this.#watchParked()];
    const rhythms = scenario.rhythms.map(({ faults, every }) => this.#beat(faults, every));
    try {
      let lastFault = began;
      for (const { fault, times } of scenario.single)
        for (let time = 0; time < times; time++) lastFault = await this.#single(fault, db, progress, began + within);
      await this.#closed(db, Math.max(1_000, began + within - performance.now()));
      const took = performance.now() - lastFault;
      if (scenario.doneWithin !== undefined && took > scenario.doneWithin)
        this.#violations.push(`I4: done ${seconds(took)} after the last fault, later than ${seconds(scenario.doneWithin)}`);
    } catch (error) {
      this.#violations.push(messageOf(error), ...(await diagnose(db)));
    }
    const took = performance.now() - began;
    this.#over.abort();
    await Promise.all([...rhythms, ...watching]);
    await Promise.allSettled(this.#queues.values());
    await this.#settle(db);
    return this.#report(took);
  }

  /** Asks for one more run; again and again under the same key, as a wiped broker may have lost the request. */
  async #trigger(): Promise<void> {
    const { items, killerEvery, pace } = this.#plan.scenario;
    const key = `chaos-${this.#runs.size}`;
    const run = `chaos@manual:${key}`;
    this.#runs.set(run, { items, killerEvery });
    const params = ['--param', `items=${items}`, '--param', `killerEvery=${killerEvery}`, '--param', `pace=${pace}`];
    const db = await this.#site.database();
    await waitFor(
      async () => {
        await this.#site.command('run', 'chaos', '--key', key, ...params);
        return waitFor(async () => (await db.query('select 1 from planner.runs where run_id = $1', [run])).rows.length > 0, {
          timeout: 15_000,
        });
      },
      { timeout: 120_000, what: `run ${run} to be opened` },
    );
  }

  /** Fires one of `faults` every so often until the work is done. */
  async #beat(faults: readonly string[], every: number): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      await delay(every * this.#slowness, undefined, { signal }).catch(() => {});
      if (!signal.aborted)
        await this.#fire(this.#world.random.pick(faults)).catch((error) => this.#violations.push(`harness: ${messageOf(error)}`));
    }
  }

  /** Fires a fault while nothing else is wrong, and measures how long it takes until work flows again. Returns when the fault was over. */
  async #single(fault: string, db: Database, progress: Progress, deadline: number): Promise<number> {
    const left = await progress.now();
    if (left.open < ENOUGH) await this.#trigger();
    await this.#flows(db, progress, deadline, 'work to flow before the next fault');
    await this.#fire(fault);
    const over = performance.now();
    const took = await this.#flows(db, progress, deadline, `work to flow after: ${fault}`);
    this.#recovery.set(fault, [...(this.#recovery.get(fault) ?? []), took]);
    this.#plan.say(`  ${fault}: work flows again after ${seconds(took)}`);
    return over;
  }

  async #flows(db: Database, progress: Progress, deadline: number, what: string): Promise<number> {
    const from = performance.now();
    const before = await waitFor(() => progress.now(), { timeout: 30_000 });
    await waitFor(
      async () => {
        const now = await progress.now();
        return flowOf(before, now) || (now.open === 0 && (await this.#trigger(), false));
      },
      { timeout: Math.max(1_000, deadline - performance.now()), interval: 50, what },
    ).catch(async (error) => {
      throw new Error([messageOf(error), ...(await diagnose(db))].join('\n'));
    });
    return performance.now() - from;
  }

  /** Faults of one server wait for each other. */
  async #fire(fault: string): Promise<void> {
    const subjects = subjectOf(fault);
    const before = Promise.allSettled(subjects.map((subject) => this.#queues.get(subject)));
    const firing = before.then(async () => {
      const memory = this.#fleet.memory();
      const peaks = new Map(memory);
      const watching = setInterval(() => {
        for (const [process, now] of this.#fleet.memory()) peaks.set(process, Math.max(peaks.get(process) ?? 0, now));
      }, 250);
      const hit = await (FAULTS[fault] as Fault)(this.#world).finally(() => clearInterval(watching));
      if (hit !== NOBODY) this.#fired.set(fault, (this.#fired.get(fault) ?? 0) + 1);
      if (fault.endsWith(' alarm'))
        this.#alarmGrowth = Math.max(this.#alarmGrowth ?? 0, ...[...memory].map(([process, then]) => (peaks.get(process) ?? then) - then));
    });
    for (const subject of subjects) this.#queues.set(subject, firing);
    await firing;
  }

  async #closed(db: Database, timeout: number): Promise<void> {
    const open = `select (select count(*) from planner.runs where job = 'chaos' and state <> 'closed') as open`;
    await waitFor(async () => Number((await db.query<{ open: string }>(open)).rows[0]?.open) === 0, {
      timeout,
      interval: 250,
      what: 'every run to close',
    });
  }

  /** Lets what is under way end without further faults, ends the services, and looks at the books. */
  async #settle(db: Database): Promise<void> {
    try {
      await this.#audit();
      const [moment] = (await db.query<{ now: string }>('select now()::text as now')).rows;
      const before = moment?.now ?? '';
      const open = `select r.run_id from planner.runs r left join audit.runs l using (run_id)
        where r.opened_at <= $1::text::timestamptz and (r.state <> 'closed' or l.state is distinct from 'closed'
          or exists (select 1 from planner.chunks c where c.run_id = r.run_id and c.state <> 'settled'))`;
      const ended = async () => this.#fleet.allStarted() && (await db.query(open, [before])).rows.length === 0;
      await waitFor(ended, { timeout: 120_000, interval: 250, what: 'all ticks to close and the planners to hear of it' }).catch(
        async (error) => this.#violations.push(messageOf(error), ...(await diagnose(db))),
      );
      await this.#parked();
      await this.#fleet.end();
      this.#violations.push(...(await checkInvariants(db, this.#runs, before)));
      await this.#audit();
    } finally {
      await this.#fleet.end();
    }
  }

  /** Also right after the end of a run, when facts may still be under way: that is no leak. */
  async #audit(): Promise<void> {
    for (const run of this.#runs.keys()) {
      const { code, output } = await this.#site.command('audit', run);
      if (code !== 0 || !/^balanced/m.test(output)) this.#violations.push(`millrace audit ${run} ended with ${code}: ${output}`);
    }
  }

  async #watchParked(): Promise<void> {
    while (!this.#over.signal.aborted) {
      await delay(3_000, undefined, { signal: this.#over.signal }).catch(() => {});
      // A broker that is away has its turn later.
      if (!this.#over.signal.aborted) await this.#parked().catch(() => {});
    }
  }

  /** Nothing in these scenarios gives a reason to set a message aside. */
  async #parked(): Promise<void> {
    const { work, events } = await parkedAt(this.#site);
    if (work > 0) this.#violations.push(`${work} chunks are parked`);
    if (events > 0) this.#violations.push(`${events} events are parked`);
  }

  #report(took: number): Report {
    const violations = new Set(this.#violations);
    for (const { service, how, log } of this.#fleet.unexpected) violations.add(`I5: ${service} ended unexpectedly (${how}):\n${log}`);
    const { memory = new Map<string, number>(), longestPause = 0 } = this.#watch ?? {};
    for (const [service, used] of memory)
      if (used > MEMORY_MIB) violations.add(`I6: ${service} took ${Math.round(used)} MiB, more than ${MEMORY_MIB}`);
    if (this.#alarmGrowth !== undefined && this.#alarmGrowth > ALARM_GROWTH_MIB)
      violations.add(`I6: a process grew by ${Math.round(this.#alarmGrowth)} MiB during the memory alarm, more than ${ALARM_GROWTH_MIB}`);
    const calls = callsIn(this.#site.calls);
    if (calls.most > MOST_CALLS && !this.#plan.scenario.itemsKill)
      violations.add(`an item was given to its job ${calls.most} times in one attempt`);
    if (calls.mean > MEAN_CALLS) violations.add(`items were given to their job ${calls.mean.toFixed(2)} times in the mean`);
    const items = [...this.#runs.values()].reduce((sum, load) => sum + load.items, 0);
    return {
      violations: [...violations],
      fired: this.#fired,
      recovery: this.#recovery,
      items,
      runs: this.#runs.size,
      seconds: took / 1_000,
      longestPause,
      calls,
      memory,
      alarmGrowth: this.#alarmGrowth,
      refusedStarts: this.#fleet.refusedStarts,
      slowness: this.#slowness,
      logs: this.#site.logs,
    };
  }
}
