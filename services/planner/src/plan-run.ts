import { codeOf, MillraceError, messageOf, noCounts } from '@millrace/core';
import type { Publisher } from '@millrace/messaging';
import { parentOf } from '@millrace/runtime';
import { context as activeContext, type Span, SpanStatusCode, trace } from '@opentelemetry/api';
import { checkpoint, type ItemsContext, isCheckpoint, type Job } from 'millrace';
import { ChunkWriter, type WriterContext } from './chunk-writer.ts';
import { ChunkBuilder, checkKey } from './domain/chunk-builder.ts';
import { LostRun, untilAborted } from './lease.ts';
import { factEnvelope } from './owed-facts.ts';
import type { OwedFact, PlanningRun } from './plan-store.ts';
import { PlannedKeys, type Sighting } from './planned-keys.ts';

/** A slow source's items do not wait longer than this for company. */
const LINGER = 500;
/** A source that fails is asked again this often before the plan counts as failed. */
const PLAN_ATTEMPTS = 3;
/** A plan that takes longer is told of before it is sealed. Until then the first chunk goes first. */
const QUICK = 20;
/** Before planning goes on after a failure of the infrastructure. */
const PAUSE = 2_000;

const tracer = trace.getTracer('@millrace/planner');

export interface PlanContext extends WriterContext {
  readonly events: Publisher;
  /** What a job's `items` may read: the default database. */
  readonly query: ItemsContext['query'];
  /** Items per chunk, at most. */
  readonly chunkItems: () => number;
  /** Bytes per item, at most. */
  readonly largestItem: number;
}

/**
 * Streams the items of a run into chunks, resumable at any point: what is stored is stored once, whoever plans.
 * Returns what happened; `lost` means that another planner has the run.
 */
export async function planRun(run: PlanningRun, job: Job, context: PlanContext, signal: AbortSignal): Promise<PlanResult> {
  const parent = parentOf(run.trace);
  const span = tracer.startSpan(`plan ${job.name}`, { attributes: { 'millrace.job': job.name, 'millrace.run.id': run.runId } }, parent);
  const result = await activeContext.with(trace.setSpan(parent, span), () => planTraced(run, job, context, signal, span));
  span.setAttribute('millrace.plan.result', result);
  span.end();
  return result;
}

type PlanResult = 'sealed' | 'failed' | 'postponed' | 'lost';

async function planTraced(claimed: PlanningRun, job: Job, context: PlanContext, signal: AbortSignal, span: Span): Promise<PlanResult> {
  const { store } = context;
  let run = claimed;
  if (run.manifest.spool && run.nextSeq > 0) {
    if (!(await store.discardPlan(run))) return 'lost';
    run = { ...run, cursor: undefined, nextSeq: 0, items: 0, duplicates: 0 };
  }
  const planning = new Planning(run, job, context, span, signal);
  try {
    const over = new AbortController();
    void tellOpened(run, context, AbortSignal.any([signal, over.signal]));
    await untilAborted(planning.run(), signal).finally(() => over.abort());
  } catch (error) {
    if (error instanceof LostRun || signal.reason instanceof LostRun) return 'lost';
    if (signal.aborted) {
      await store.postponePlanning(run, 0);
      return 'postponed';
    }
    span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
    const code = codeOf(error);
    const ours = code?.startsWith('MR3') === true;
    if (ours || (code === undefined && run.failures + 1 < PLAN_ATTEMPTS)) {
      await store.postponePlanning(run, ours ? PAUSE : 1_000 * 2 ** run.failures, !ours);
      return 'postponed';
    }
    const failure = code
      ? { code, message: messageOf(error) }
      : { code: 'MR1012', message: new MillraceError('MR1012', `job "${job.name}": ${messageOf(error)}`).message };
    return (await planning.fail(failure)) ? 'failed' : 'lost';
  }
  return (await planning.seal()) ? 'sealed' : 'lost';
}

/** The last checkpoint, and how far the plan was then: what is stored beyond it will be yielded again, and is no duplicate. */
interface Mark {
  readonly cursor: unknown;
  readonly items: number;
  readonly duplicates: number;
}

class Planning {
  readonly #run: PlanningRun;
  readonly #job: Job;
  readonly #context: PlanContext;
  readonly #span: Span;
  readonly #signal: AbortSignal;
  readonly #builder: ChunkBuilder;
  readonly #writer: ChunkWriter;
  readonly #keys: PlannedKeys;
  #index = 0;
  #bufferedSince = 0;
  #mark: Mark | undefined;
  #items: number;
  #duplicates: number;

  constructor(run: PlanningRun, job: Job, context: PlanContext, span: Span, signal: AbortSignal) {
    this.#span = span;
    this.#signal = signal;
    this.#run = run;
    this.#job = job;
    this.#context = context;
    this.#builder = new ChunkBuilder(job.name, run.nextSeq, context.chunkItems, context.largestItem, context.buffers);
    this.#writer = new ChunkWriter(run, context, span, signal);
    this.#mark = run.cursor as Mark | undefined;
    this.#items = run.items;
    // What the source repeated after the mark, it will repeat again.
    this.#duplicates = this.#mark?.duplicates ?? 0;
    this.#keys = new PlannedKeys({
      stored: (fromSeq, chunks) => context.store.storedKeys(run.runId, fromSeq, chunks),
      inMemory: (seq) => (seq === this.#builder.seq ? this.#builder.openKeys : this.#writer.keysOf(seq)),
      unfinished: () => this.#builder.seq,
      settled: () => this.#writer.stored(),
    });
  }

  async run(): Promise<void> {
    const signal = this.#signal;
    if (this.#run.nextSeq > 0) await this.#keys.recall(this.#mark?.items ?? 0);
    const { query } = this.#context;
    const source = this.#job.items({
      tick: { id: this.#run.tick, at: new Date(this.#run.nominal ?? this.#run.openedAt) },
      params: this.#run.params,
      cursor: this.#mark?.cursor,
      checkpoint,
      query,
      signal,
    });
    signal.throwIfAborted();
    // A source that is not asynchronous is not made so: promises per item would cost as much as the rest of planning. Nor does it
    // see the signal abort unless something was waited for.
    if (Symbol.iterator in source) {
      for (const item of source) {
        const going = this.#take(item);
        if (going === true) continue;
        if (!(await going)) break;
        signal.throwIfAborted();
      }
    } else {
      for await (const item of source) {
        signal.throwIfAborted();
        const going = this.#take(item);
        if (going !== true && !(await going)) break;
      }
    }
    await this.#finish();
  }

  /** False when the run has as many items as it was asked for. */
  #take(item: unknown): boolean | Promise<boolean> {
    if (isCheckpoint(item)) {
      // What is spooled is always planned from the start.
      if (!this.#run.manifest.spool) this.#mark = { cursor: item.cursor, items: this.#items, duplicates: this.#duplicates };
      return true;
    }
    if (this.#run.limit !== undefined && this.#items >= this.#run.limit) return false;
    const key: unknown = this.#job.key(item);
    checkKey(key, this.#job.name, this.#index++);
    const sighting = this.#keys.sight(key, this.#builder.seq);
    return typeof sighting === 'string' ? this.#sighted(sighting, key, item) : sighting.then((late) => this.#sighted(late, key, item));
  }

  #sighted(sighting: Sighting, key: string | number, item: unknown): true | Promise<true> {
    if (sighting === 'new') return this.#add(key, item);
    if (sighting === 'duplicate') this.#duplicates++;
    return true;
  }

  #add(key: string | number, item: unknown): true | Promise<true> {
    const { time } = this.#context;
    if (this.#builder.size === 0) this.#bufferedSince = time.now();
    const chunk = this.#builder.add(key, item);
    this.#items++;
    if (chunk) return this.#writer.add(chunk) ? this.#flush() : true;
    if ((this.#index & 63) !== 0 || time.now() - this.#bufferedSince <= LINGER) return true;
    this.#cut();
    return this.#flush();
  }

  async seal(): Promise<boolean> {
    const { chunks, items, duplicates } = this.#totals();
    this.#span.setAttributes({ 'millrace.plan.chunks': chunks, 'millrace.plan.items': items, 'millrace.plan.duplicates': duplicates });
    const planned: OwedFact = {
      kind: 'run.planned',
      data: { ...this.#totals(), plannedAt: this.#context.time.now(), replaced: noCounts() },
    };
    return this.#context.store.seal(this.#run, [openedFact(this.#run), planned], this.#duplicates);
  }

  /** What is stored stays planned and is worked off, unless it is spooled; the run ends as failed and says how far it came. */
  async fail(failure: { code: string; message: string }): Promise<boolean> {
    let totals = this.#totals();
    try {
      if (this.#run.manifest.spool) {
        // What is on its way into the table must have arrived, or it would come after the rest has gone.
        await this.#writer.over();
        if (!(await this.#context.store.discardPlan(this.#run))) return false;
        this.#duplicates = 0;
        totals = { ...totals, chunks: 0, items: 0, duplicates: 0 };
      } else {
        await this.#finish();
        totals = this.#totals();
      }
    } catch (error) {
      if (error instanceof LostRun) return false;
      throw error;
    }
    const failed: OwedFact = { kind: 'run.plan_failed', data: { ...totals, failedAt: this.#context.time.now(), ...failure } };
    return this.#context.store.seal(this.#run, [openedFact(this.#run), failed], this.#duplicates, failure);
  }

  #totals() {
    return {
      runId: this.#run.runId,
      job: this.#job.name,
      generation: 0,
      chunks: this.#builder.seq,
      items: this.#items,
      duplicates: this.#duplicates,
    };
  }

  #cut(): void {
    const chunk = this.#builder.cut();
    if (chunk) this.#writer.add(chunk);
  }

  #flush(): Promise<true> {
    return this.#writer.flush({
      cursor: this.#mark,
      items: this.#items - this.#builder.size,
      duplicates: this.#duplicates,
    });
  }

  async #finish(): Promise<void> {
    this.#cut();
    await this.#flush();
    await this.#writer.over();
  }
}

/** Never rejects: the seal owes the same fact, and `signal` aborts when planning is over. */
async function tellOpened(run: PlanningRun, { events, time }: PlanContext, signal: AbortSignal): Promise<void> {
  await time.sleep(QUICK, signal);
  if (signal.aborted) return;
  await events.publish([factEnvelope(openedFact(run), time.now(), run.trace)], { signal }).catch(() => undefined);
}

function openedFact(run: PlanningRun): OwedFact {
  return {
    kind: 'run.opened',
    data: {
      runId: run.runId,
      job: run.job,
      generation: 0,
      tick: run.tick,
      nominal: run.nominal,
      cause: run.cause,
      openedAt: run.openedAt,
      manifest: run.manifest.run,
      params: run.params,
    },
  };
}
