import { type Instant, type ItemState, runIdOf, tickOf } from '@millrace/core';
import { defineJob, type Job, PermanentError, TransientError } from 'millrace';
import type { EffectRow } from './inbox-tables.ts';
import type { SimProcess } from './process.ts';
import type { Random } from './random.ts';

/** What an item does, and so what must become of it whatever happens to the processes around it. */
export type ItemKind = keyof typeof FINAL;

/** The final state by kind; undefined where chance decides anew in every execution. */
const FINAL = {
  good: 'a',
  slow: 'a',
  skip: 's',
  reject: 'r',
  permanent: 'x',
  /** Fails for a while; succeeds on the last attempt at the latest. */
  transient: 'a',
  exhausted: 'x',
  poison: 'x',
  flaky: undefined,
  /** Fails for good until somebody has mended what it needs. */
  broken: 'x',
} as const satisfies Record<string, ItemState | undefined>;

const ATTEMPTS = 3;

export interface Item {
  readonly id: string;
  readonly kind: ItemKind;
  /** The attempt on which a transient item succeeds. */
  readonly until: number;
}

export interface RunPlan {
  /** Without duplicates. */
  readonly items: readonly Item[];
  /** What the source yields: the items in order, some of them again. */
  readonly yields: readonly Item[];
  /** How often the source fails in the middle before it works; Infinity: always. */
  failures: number;
}

/** `spooled`: in another order every time, and planned as a whole. */
export type SourceKind = 'paged' | 'checkpoints' | 'shuffled' | 'spooled' | 'slow';

interface JobPlan {
  readonly name: string;
  readonly source: SourceKind;
  /** Effects go into their table beside the inbox row, in one round trip. */
  readonly rows: boolean;
  readonly runs: Map<string, RunPlan>;
  readonly make: () => RunPlan;
}

/** The ticks of the scheduled job stand in the first minute of this day, and next in a year. */
export const NOON: Instant = Date.UTC(2026, 0, 1, 12);
const SECONDS = [0, 4, 8];

/** Jobs and their items, drawn from the seed. */
export class Workload {
  readonly #random: Random;
  #definitions: readonly Job[] | undefined;
  #hurried = false;
  readonly jobs: readonly JobPlan[];
  readonly ticks: readonly Instant[];
  readonly overlap: 'skip' | 'allow' | 'bufferOne';
  readonly triggers: readonly { readonly job: string; readonly key: string }[];
  redriven: boolean;
  /** A source that the seed's faults need. */
  #provoked: 'spooled' | 'checkpoints' | 'slow' | undefined;
  /** Somebody has mended what broken items need. */
  mended = false;

  constructor(random: Random) {
    this.#random = random;
    const big = random.chance(0.06);
    this.ticks = SECONDS.slice(0, big ? 3 : random.pick([1, 1, 2])).map((second) => NOON + second * 1_000);
    this.overlap = random.pick(['skip', 'allow', 'allow', 'bufferOne']);
    this.redriven = random.chance(0.6);
    const job = (name: string, source: SourceKind, most: number): JobPlan => ({
      name,
      source,
      rows: random.chance(0.4),
      runs: new Map(),
      make: () => this.#draw((name === 'hand' && this.#provoked) || source, name === 'none' ? 0 : random.int(1, big ? 5 * most : most)),
    });
    this.jobs = [
      job('timed', random.pick(['paged', 'checkpoints']), 10),
      job('behind', 'paged', 5),
      job('hand', random.pick(['checkpoints', 'checkpoints', 'shuffled', 'spooled', 'slow']), 16),
      job('none', 'paged', 0),
    ];
    this.triggers = [
      { job: 'hand', key: 'one' },
      ...(big || random.chance(0.1) ? [{ job: 'hand', key: 'two' }] : []),
      ...(random.chance(0.3) ? [{ job: 'none', key: 'one' }] : []),
    ];
  }

  /** Sees to it that a run comes to the place. */
  provoke(method: string): void {
    if (method === 'plan.redrive') this.redriven = true;
    if (method === 'plan.discardPlan') this.#provoked = 'spooled';
    if (method === 'plan.renewLease') this.#provoked ??= 'slow';
    if (method === 'plan.storedKeys' || method === 'plan.postponePlanning') this.#provoked ??= 'checkpoints';
  }

  /** Where inboxes are kept for a short time only, runs must be over soon: no source breaks off, and nothing is redriven. */
  hurry(): void {
    this.redriven = false;
    this.#hurried = true;
  }

  /** Runs that must exist in the end, whatever happens. What follows from ticks depends on the overlap policy. */
  get triggeredRuns(): readonly string[] {
    return this.triggers.map(({ job, key }) => runIdOf(job, `manual:${key}`));
  }

  tickRun(nominal: Instant): string {
    return runIdOf('timed', tickOf(nominal));
  }

  /** The plan of a run, drawn when it is first asked for. */
  planOf(runId: string): RunPlan {
    const job = this.jobs.find(({ name }) => runId.startsWith(`${name}@`));
    if (!job) throw new Error(`no job for the run ${runId}`);
    let plan = job.runs.get(runId);
    if (!plan) {
      plan = job.make();
      job.runs.set(runId, plan);
    }
    return plan;
  }

  /** The state that an item must end with; undefined when chance decides. `a` for a broken one once it was redriven. */
  finalState(item: Item, redriven: boolean): ItemState | undefined {
    return item.kind === 'broken' && redriven ? 'a' : FINAL[item.kind];
  }

  /** The most attempts that the items of a chunk may spend. */
  attemptsOf(items: readonly Item[]): number {
    return Math.max(1, ...items.map(({ kind, until }) => (kind === 'transient' ? until : kind === 'exhausted' ? ATTEMPTS : 1)));
  }

  /** The code of the jobs, as one process loads it: everybody's definitions, with functions that run in the process. */
  load(process: SimProcess): ReadonlyMap<string, Job> {
    this.#definitions ??= this.jobs.map((plan) => this.#define(plan));
    return new Map(
      this.#definitions.map((job): [string, Job] => {
        const items: Job['items'] = (ctx) => this.#source(this.#sourceOf(job.name), runIdOf(job.name, ctx.tick.id), ctx, process);
        const work: Job['process'] = (item, ctx) => this.#process(item as Item, runIdOf(job.name, ctx.tick.id), ctx, process);
        return [job.name, { ...job, items, process: work }];
      }),
    );
  }

  #define({ name, rows }: JobPlan): Job {
    const seconds = this.ticks.map((tick) => (tick / 1_000) % 60).join(',');
    const timed = {
      cron: `${seconds} 0 12 1 1 *`,
      timeZone: 'UTC',
      overlap: this.overlap,
      catchUp: { mode: 'all', window: '1h' },
    } as const;
    const made = defineJob(name, {
      ...(name === 'timed' ? { schedule: timed } : {}),
      ...(name === 'behind' ? { after: [{ job: 'timed', on: 'closed' }] } : {}),
      concurrency: 4,
      timeout: 20_000,
      retry: { attempts: ATTEMPTS, backoff: 'exponential', base: 200, max: 2_000 },
      batch: { size: rows ? 50 : 3 },
    })
      .items(notLoaded, { key: (item: Item) => item.id, spool: this.#sourceOf(name) === 'spooled' })
      .process(notLoaded)
      .commit({
        ...(rows ? { rows: { table: 'effects', columns: ['run', 'key', 'poison'] } } : {}),
        kind: 'postgres',
        name: 'effects',
        pool: undefined,
        setup: undefined,
        write: (effects: readonly EffectRow[], tx) => tx.query('insert into effects', [effects]),
      });
    return made as unknown as Job;
  }

  #sourceOf(job: string): SourceKind {
    return (job === 'hand' && this.#provoked) || (this.jobs.find(({ name }) => name === job) as JobPlan).source;
  }

  async *#source(
    kind: SourceKind,
    runId: string,
    ctx: {
      cursor: unknown;
      checkpoint(cursor: unknown): unknown;
      query(sql: string, params: readonly unknown[]): Promise<{ rows: readonly unknown[] }>;
    },
    process: SimProcess,
  ): AsyncGenerator<Item> {
    const plan = this.planOf(runId);
    const yields = kind === 'shuffled' || kind === 'spooled' ? this.#random.shuffle(plan.yields) : plan.yields;
    const breaks = plan.failures > 0 ? Math.floor(yields.length / 2) : -1;
    const page = 5;
    for (let from = typeof ctx.cursor === 'number' ? ctx.cursor : 0; from < yields.length; from += page) {
      await ctx.query('select from source', [from]);
      if (kind === 'slow') await process.time.sleep(700);
      for (const [index, item] of yields.slice(from, from + page).entries()) {
        if (from + index === breaks) {
          plan.failures--;
          throw new TransientError('the source broke off');
        }
        yield item;
      }
      if (kind === 'checkpoints') yield ctx.checkpoint(Math.min(from + page, yields.length)) as Item;
    }
  }

  #process(
    item: Item,
    run: string,
    ctx: { attempt: number; skip(reason: string): unknown; reject(reason: string): unknown },
    process: SimProcess,
  ): unknown {
    const effect: EffectRow = { run, key: item.id };
    switch (item.kind) {
      case 'good':
        return effect;
      case 'slow':
        return process.call('item.await', () => effect);
      case 'skip':
        return ctx.skip('unchanged');
      case 'reject':
        return ctx.reject('closed account');
      case 'permanent':
        throw new PermanentError('no such thing');
      case 'transient':
        if (ctx.attempt < item.until) throw new TransientError('busy', item.until === 2 ? {} : { retryAfter: 300 });
        return effect;
      case 'exhausted':
        throw new TransientError('always busy');
      case 'poison':
        return { ...effect, poison: true };
      case 'broken':
        if (!this.mended) throw new PermanentError('not mended yet');
        return effect;
      case 'flaky': {
        const chance = this.#random.next();
        if (chance < 0.4) return effect;
        if (chance < 0.6) return ctx.skip('unchanged');
        if (chance < 0.8) throw new PermanentError('bad luck');
        return ctx.reject('bad luck');
      }
      default:
        return item.kind satisfies never;
    }
  }

  #draw(source: SourceKind, size: number): RunPlan {
    const random = this.#random;
    const items = Array.from({ length: size }, (_, i): Item => {
      const kind = random.chance(0.6) ? 'good' : random.pick(Object.keys(FINAL) as ItemKind[]);
      return { id: `k${i}`, kind, until: random.int(2, ATTEMPTS) };
    });
    const yields = [...items];
    if (random.chance(0.5))
      for (let i = random.int(1, 3); i > 0 && size > 0; i--) yields.splice(random.int(0, yields.length), 0, random.pick(items));
    if (source === this.#provoked) return { items, yields, failures: 1 };
    const failures =
      this.#hurried || source === 'paged' ? 0 : random.chance(0.3) ? random.int(1, 2) : random.chance(0.05) ? Number.POSITIVE_INFINITY : 0;
    return { items, yields, failures };
  }
}

/** Definitions alone run nowhere. */
const notLoaded = (): never => {
  throw new Error('no process has loaded this job');
};
