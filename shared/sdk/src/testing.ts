import {
  type Counts,
  codeOf,
  countStates,
  effectIdOf,
  encodeStates,
  type Instant,
  type ItemState,
  itemIdOf,
  MillraceError,
  manualTick,
  messageOf,
  parseInstant,
  type RunVerdict,
  runIdOf,
  sumCounts,
  verdictOf,
  whyNotJson,
} from '@millrace/core';
import type { DefinedJob, Job, Log, ProcessContext, SinkTransaction } from './job.ts';
import { checkpoint, isCheckpoint, isReject, isSkip, reject, skip } from './outcome.ts';

export interface RunJobOptions<Item = unknown> {
  /** The nominal instant. Default 2026-01-01T00:00:00Z, so that a run is the same every day. */
  readonly at?: Date | Instant | string;
  readonly params?: Readonly<Record<string, unknown>>;
  /** Items to run instead of those of the source. */
  readonly items?: Iterable<Item>;
  /** Answers `query` in the item source. Default: rejects. */
  readonly query?: (sql: string, params?: readonly unknown[]) => Promise<{ readonly rows: readonly unknown[] }>;
  /** By key: errors that the first tries of an item throw instead of being processed, one per try; or one error for every try. */
  readonly faults?: Readonly<Record<string, unknown>>;
  /**
   * Kills the imagined processor once per batch: `before-commit` loses the batch's work, `after-commit` loses only the
   * word of it. In both cases the batch is delivered again.
   */
  readonly crash?: 'before-commit' | 'after-commit';
  /** Gives `postgres(…)` sinks a transaction to write in. Without it they are not run; their effects are in the result. */
  readonly tx?: SinkTransaction;
}

export interface TestFailure {
  readonly key: string;
  readonly class: 'transient' | 'permanent' | 'rejected' | 'timeout' | 'commit';
  readonly message: string;
  /** Tries made. */
  readonly attempts: number;
}

export interface TestRun<Effect = unknown> {
  readonly runId: string;
  readonly verdict: RunVerdict;
  /** Items that the source yielded; the sum of `counts`. */
  readonly planned: number;
  readonly counts: Counts;
  /** Applied effects in the order of their items, each once. */
  readonly effects: readonly Effect[];
  readonly failures: readonly TestFailure[];
  /** Skipped items by reason. */
  readonly skips: Readonly<Record<string, number>>;
}

/**
 * Runs a job to its end in this process, without brokers, database or waiting: the same outcome as on the real thing,
 * the same each time. Items, effects and parameters go through JSON as they would. Rejects with the errors of the item
 * source, of its keys and items (MR1005, MR1006), of the parameters (MR1013), and of `tx`.
 */
export async function runJob<Item, Effect>(
  job: Job | DefinedJob<Item, Effect>,
  options: RunJobOptions<Item> = {},
): Promise<TestRun<Effect>> {
  const run = new TestedRun(job, options);
  const planned = await run.plan();
  for (let start = 0; start < planned.length; start += job.manifest.batch.size)
    await run.settle(planned.slice(start, start + job.manifest.batch.size));
  return run.result() as TestRun<Effect>;
}

interface PlannedItem {
  readonly key: string;
  readonly json: string;
  state: ItemState;
  attempts: number;
  effect?: unknown;
}

class TestedRun {
  readonly #job: Job;
  readonly #options: RunJobOptions;
  readonly #tick: { readonly id: string; readonly at: Date };
  readonly #runId: string;
  readonly #params: Record<string, unknown>;
  readonly #items: PlannedItem[] = [];
  readonly #failures = new Map<string, TestFailure>();
  readonly #skips: Record<string, number> = {};
  #duplicates = 0;

  constructor(job: Job, options: RunJobOptions) {
    this.#job = job;
    this.#options = options;
    this.#tick = { id: manualTick('test'), at: new Date(instantOf(options.at ?? Date.UTC(2026, 0, 1))) };
    this.#runId = runIdOf(job.name, this.#tick.id);
    this.#params = job.parseParams(options.params);
  }

  async plan(): Promise<readonly PlannedItem[]> {
    const keys = new Set<string>();
    const query =
      this.#options.query ?? (() => Promise.reject(new Error('the item source asks the database: give `query` (or `items`) to runJob')));
    const source =
      this.#options.items ??
      this.#job.items({
        tick: this.#tick,
        params: this.#params,
        cursor: undefined,
        checkpoint,
        query: query as never,
        signal: new AbortController().signal,
      });
    for await (const item of source as AsyncIterable<unknown>) {
      if (isCheckpoint(item)) continue;
      const key: unknown = this.#job.key(item);
      const valid = (typeof key === 'string' && key !== '') || (typeof key === 'number' && Number.isFinite(key));
      if (!valid) throw new MillraceError('MR1005', `${String(key)} is the key of ${JSON.stringify(item)} in job "${this.#job.name}"`);
      const why = item === undefined ? 'the item is undefined' : whyNotJson(item);
      if (why) throw new MillraceError('MR1006', `${why} in item "${key}" of job "${this.#job.name}"`);
      if (keys.has(String(key))) this.#duplicates++;
      else this.#items.push({ key: String(key), json: JSON.stringify(item), state: 'p', attempts: 0 });
      keys.add(String(key));
    }
    return this.#items;
  }

  async settle(batch: readonly PlannedItem[]): Promise<void> {
    let crash = this.#options.crash;
    for (let attempt = 1; ; attempt++) {
      const todo = batch.filter((item) => item.state === 'p' || item.state === 'f');
      if (todo.length === 0) return;
      if (crash === 'before-commit') {
        // The items were processed, and nobody will ever know.
        crash = undefined;
        for (const item of todo) await this.#outcomeOf(item, attempt);
      }
      await inParallel(todo, this.#job.manifest.concurrency, async (item) =>
        this.#apply(item, attempt, await this.#outcomeOf(item, attempt)),
      );
      await this.#commit(todo.filter((item) => item.state === 'a'));
      if (crash === 'after-commit') {
        // Delivered again: the record says what is done, and only what is not done is done.
        crash = undefined;
        attempt--;
      }
    }
  }

  result(): TestRun {
    const counts = countStates(encodeStates(this.#items.map(({ state }) => state))).counts;
    counts.duplicate += this.#duplicates;
    const { tolerate, onEmpty } = this.#job.manifest.run;
    const planned = this.#items.length + this.#duplicates;
    if (sumCounts(counts) !== planned) throw new MillraceError('MR4003', `${planned} planned, ${JSON.stringify(counts)}`);
    return {
      runId: this.#runId,
      planned,
      counts,
      verdict: planned === 0 && onEmpty === 'fail' ? 'failed' : verdictOf(counts, tolerate, false),
      effects: this.#items.flatMap(({ state, effect }) => (state === 'a' ? [effect] : [])),
      failures: this.#items.flatMap(({ key }) => this.#failures.get(key) ?? []),
      skips: this.#skips,
    };
  }

  /** What `process` gave or threw. */
  async #outcomeOf(item: PlannedItem, attempt: number): Promise<{ readonly value?: unknown; readonly error?: unknown }> {
    const fault = faultOf(this.#options.faults?.[item.key], attempt);
    if (fault !== undefined) return { error: fault };
    const timeout = this.#job.manifest.timeout;
    const abort = new AbortController();
    const context: ProcessContext = {
      skip,
      reject,
      signal: abort.signal,
      itemId: itemIdOf(this.#runId, item.key),
      attempt,
      log: SILENT,
      tick: this.#tick,
      params: this.#params,
    };
    try {
      const value = this.#job.process(JSON.parse(item.json), context);
      return { value: isThenable(value) && timeout > 0 ? await within(value, timeout, abort) : await value };
    } catch (error) {
      return { error: error ?? new Error(String(error)) };
    }
  }

  #apply(item: PlannedItem, attempt: number, outcome: { readonly value?: unknown; readonly error?: unknown }): void {
    item.attempts = attempt;
    const marked = outcome.error ?? outcome.value;
    if (isSkip(marked)) {
      item.state = 's';
      this.#skips[marked.reason] = (this.#skips[marked.reason] ?? 0) + 1;
      return;
    }
    if (isReject(marked)) {
      this.#fail(item, 'rejected', marked.reason);
    } else if (outcome.error !== undefined) {
      const blame = blameOf(outcome.error);
      if (blame !== 'permanent' && attempt < this.#job.manifest.retry.attempts) item.state = 'f';
      else this.#fail(item, blame, messageOf(outcome.error));
    } else {
      const why = outcome.value === undefined ? 'process returned nothing' : whyNotJson(outcome.value);
      if (why) {
        this.#fail(item, 'permanent', new MillraceError('MR1008', why).message);
        return;
      }
      item.state = 'a';
      item.effect = JSON.parse(JSON.stringify(outcome.value));
    }
  }

  /** Writes the batch; a batch that a function refuses is halved until the items that break it are alone. */
  async #commit(items: readonly PlannedItem[]): Promise<void> {
    const { sink } = this.#job;
    if (items.length === 0) return;
    const effects = items.map(({ effect }) => effect);
    if (sink.kind === 'postgres') {
      if (this.#options.tx) await sink.write(effects, this.#options.tx);
      return;
    }
    const effectIds = items.map(({ key }) => effectIdOf(itemIdOf(this.#runId, key), sink.name));
    try {
      await sink.write(effects, { runId: this.#runId, job: this.#job.name, signal: new AbortController().signal, effectIds });
    } catch (error) {
      if (items.length === 1) {
        this.#fail(items[0] as PlannedItem, 'commit', messageOf(error));
        return;
      }
      const middle = items.length >> 1;
      await this.#commit(items.slice(0, middle));
      await this.#commit(items.slice(middle));
    }
  }

  #fail(item: PlannedItem, blame: TestFailure['class'], message: string): void {
    item.state = blame === 'rejected' ? 'r' : 'x';
    this.#failures.set(item.key, { key: item.key, class: blame, message, attempts: item.attempts });
  }
}

function blameOf(error: unknown): 'transient' | 'permanent' | 'timeout' {
  if (codeOf(error) === 'MR1014') return 'timeout';
  return (error as { transient?: unknown }).transient === false ? 'permanent' : 'transient';
}

function faultOf(faults: unknown, attempt: number): unknown {
  return Array.isArray(faults) ? faults[attempt - 1] : faults;
}

function instantOf(at: Date | Instant | string): Instant {
  const instant = typeof at === 'string' ? parseInstant(at) : Number(at);
  if (instant === undefined || Number.isNaN(instant))
    throw new MillraceError('MR2009', `\`at\` of runJob is ${String(at)}, expected an instant such as "2026-11-24T00:10:00Z"`);
  return instant;
}

/** AbortSignal.timeout does not keep the process alive, and needs no clearing. */
function within(work: PromiseLike<unknown>, timeout: number, abort: AbortController): Promise<unknown> {
  return new Promise((resolve, fail) => {
    const limit = AbortSignal.timeout(timeout);
    const expired = (): void => {
      const error = new MillraceError('MR1014', `no result after ${timeout} ms`);
      abort.abort(error);
      fail(error);
    };
    limit.addEventListener('abort', expired, { once: true });
    Promise.resolve(work)
      .then(resolve, fail)
      .finally(() => limit.removeEventListener('abort', expired));
  });
}

async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++] as T);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null)?.then === 'function';
}

const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {} };
