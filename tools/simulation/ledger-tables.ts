import {
  type Counts,
  countStates,
  noCounts,
  type RunClosed,
  type RunManifest,
  type RunVerdict,
  splitRunId,
  sumCounts,
  type Trace,
  verdictOf,
} from '@millrace/core';
import { addCounts, type ChunkRow, chunkKey, chunksOf, type FailureRow, foldChunks } from '../../services/audit/src/domain/fold-chunks.ts';
import type { FactBatch, Fold, JobStanding } from '../../services/audit/src/ledger-store.ts';
import type { Mutants } from './mutants.ts';

/** What the ledger knows of one run. Replaced as a whole: a reader never sees half a change. */
export interface Book {
  readonly runId: string;
  readonly job: string;
  readonly tick: string;
  nominal: number | null;
  manifest: RunManifest;
  trace: Trace;
  state: 'planning' | 'running' | 'closed';
  verdict: RunVerdict | null;
  generation: number;
  openedAt: number;
  closedAt: number | null;
  planFailed: boolean;
  planned: number;
  counts: Counts;
  readonly generations: Map<number, Generation>;
  readonly chunks: Map<string, ChunkRow>;
  readonly failures: Map<string, FailureRow>;
}

/** What a transaction is about to write. */
export interface Change extends Fold {
  readonly books: readonly Book[];
  readonly closed: readonly RunClosed[];
}

interface Generation {
  readonly planned: { readonly items: number; readonly chunks: number; readonly failed: boolean } | undefined;
  readonly final: Counts;
  readonly closed: boolean;
}

const DEFAULT_MANIFEST: RunManifest = { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' };

/** The audit's schema in memory; ledger-store.contract.ts holds it and PostgresLedgerStore to the same answers. */
export class LedgerTables {
  readonly books = new Map<string, Book>();
  readonly outbox = new Map<string, { readonly data: RunClosed; readonly trace: Trace }>();
  readonly #now: () => number;
  readonly #mutants: Mutants;

  constructor(now: () => number, mutants: Mutants) {
    this.#now = now;
    this.#mutants = mutants;
  }

  /** What a transaction over the batch would write. The caller holds the locks of `runsOf(batch)` until it has committed that. */
  prepare(batch: FactBatch): Change {
    const books = runsOf(batch).map((runId) => this.#open(runId, batch));
    const closed: RunClosed[] = [];
    const gained = new Map<string, Counts>();
    let awaited = books.length === 0 ? 0 : Number.POSITIVE_INFINITY;
    for (const book of books) {
      const before = { ...book.counts };
      for (const fact of batch.opened) if (fact.runId === book.runId) openRun(book, fact);
      const settled = batch.settled.filter(({ runId }) => runId === book.runId);
      if (settled.length > 0) {
        const changed = this.#foldSettled(book, settled);
        const sum = gained.get(book.job) ?? noCounts();
        addCounts(sum, book.counts, 1);
        addCounts(sum, before, -1);
        if (changed) gained.set(book.job, sum);
      }
      for (const fact of batch.planned) if (fact.runId === book.runId) this.#plan(book, { ...fact, failed: false }, closed);
      for (const fact of batch.planFailed)
        if (fact.runId === book.runId) this.#plan(book, { ...fact, replaced: noCounts(), failed: true }, closed);
      const fromMerge = settled.length > 0;
      const fromSeal = !fromMerge;
      if (fromMerge ? !this.#mutants.on('completion-only-in-seal') : fromSeal && !this.#mutants.on('completion-only-in-merge'))
        awaited = Math.min(awaited, this.#closeIfComplete(book, closed));
    }
    return { books, closed, gained, awaited };
  }

  commit({ books, closed }: Change): void {
    for (const book of books) this.books.set(book.runId, book);
    for (const data of closed) {
      const id = `${data.runId}/${data.generation}/run.closed`;
      if (!this.outbox.has(id)) this.outbox.set(id, { data, trace: this.books.get(data.runId)?.trace ?? {} });
    }
  }

  owed(limit: number): { id: string; data: RunClosed; trace: Trace }[] {
    return [...this.outbox].slice(0, limit).map(([id, { data, trace }]) => ({ id, data, trace }));
  }

  standing(): JobStanding[] {
    const jobs = new Map<string, JobStanding>();
    for (const { job, planned, counts, verdict, closedAt } of this.books.values()) {
      const known = jobs.get(job) ?? { job, unaccounted: 0, lastSuccess: null };
      const success = verdict === 'succeeded' ? closedAt : null;
      const lastSuccess = success === null ? known.lastSuccess : Math.max(known.lastSuccess ?? 0, success);
      jobs.set(job, { job, unaccounted: known.unaccounted + planned - sumCounts(counts), lastSuccess });
    }
    return [...jobs.values()];
  }

  clear(ids: readonly string[]): void {
    for (const id of ids) this.outbox.delete(id);
  }

  /** A copy of the book to write into, or a new one. */
  #open(runId: string, batch: FactBatch): Book {
    const known = this.books.get(runId);
    if (known)
      return {
        ...known,
        counts: { ...known.counts },
        generations: new Map(known.generations),
        chunks: new Map(known.chunks),
        failures: new Map(known.failures),
      };
    const job = [...batch.opened, ...batch.planned, ...batch.planFailed, ...batch.settled].find((fact) => fact.runId === runId)?.job ?? '';
    return {
      runId,
      job,
      tick: splitRunId(runId)?.tick ?? runId,
      nominal: null,
      manifest: DEFAULT_MANIFEST,
      trace: {},
      state: 'planning',
      verdict: null,
      generation: 0,
      openedAt: this.#now(),
      closedAt: null,
      planFailed: false,
      planned: 0,
      counts: noCounts(),
      generations: new Map(),
      chunks: new Map(),
      failures: new Map(),
    };
  }

  /** False when the facts say nothing new. */
  #foldSettled(book: Book, facts: FactBatch['settled']): boolean {
    const byLast = this.#mutants.on('last-outcome-wins');
    const { chunks, gained, failures, recovered } = foldChunks(byLast ? new Map() : book.chunks, facts);
    for (const { latest: _, ...chunk } of chunks) book.chunks.set(chunkKey(chunk), chunk);
    for (const failure of failures) {
      const id = `${failure.seq}/${failure.position}`;
      const known = book.failures.get(id);
      if (!known || failure.generation > known.generation || (failure.generation === known.generation && failure.attempt >= known.attempt))
        book.failures.set(id, failure);
    }
    for (const { seq, position } of recovered) book.failures.delete(`${seq}/${position}`);
    for (const { generation, counts } of gained) {
      const known = book.generations.get(generation) ?? { planned: undefined, final: noCounts(), closed: false };
      const final = { ...known.final };
      if (byLast) {
        // The row is replaced by the latest message: its counts are whatever the rows now say.
        Object.assign(final, noCounts());
        for (const chunk of book.chunks.values())
          if (chunk.generation === generation) addCounts(final, countStates(chunk.outcomes).counts, 1);
        addCounts(book.counts, known.final, -1);
        addCounts(book.counts, final, 1);
      } else {
        addCounts(final, counts, 1);
        addCounts(book.counts, counts, 1);
      }
      book.generations.set(generation, { ...known, final });
    }
    if (this.#mutants.on('counter-instead-of-merge')) {
      // What a counter does: every message counts, also the one that says nothing new.
      for (const fact of facts) {
        if (gained.some(({ generation }) => generation === fact.generation)) continue;
        const known = book.generations.get(fact.generation);
        if (!known) continue;
        const final = { ...known.final };
        addCounts(final, countStates(fact.outcomes).counts, 1);
        addCounts(book.counts, countStates(fact.outcomes).counts, 1);
        book.generations.set(fact.generation, { ...known, final });
      }
    }
    return chunks.length > 0;
  }

  #plan(
    book: Book,
    plan: { generation: number; items: number; chunks: number; duplicates: number; replaced: Counts; failed: boolean },
    closed: RunClosed[],
  ): void {
    const known = book.generations.get(plan.generation) ?? { planned: undefined, final: noCounts(), closed: false };
    if (known.planned) {
      // Told again of a generation that is closed: its planner has missed the close.
      if (book.state === 'closed' && book.generation === plan.generation && known.closed && book.verdict)
        closed.push(this.#closedFact(book, book.verdict, book.closedAt ?? this.#now()));
      return;
    }
    book.generations.set(plan.generation, { ...known, planned: { items: plan.items, chunks: plan.chunks, failed: plan.failed } });
    addCounts(book.counts, plan.replaced, -1);
    book.counts.duplicate += plan.duplicates;
    book.state = 'running';
    book.generation = Math.max(book.generation, plan.generation);
    book.verdict = null;
    book.closedAt = null;
    if (plan.generation === 0) book.planned = plan.items + plan.duplicates;
    if (plan.failed) book.planFailed = true;
  }

  #closeIfComplete(book: Book, closed: RunClosed[]): number {
    const generation = book.generations.get(book.generation);
    if (book.state === 'closed' || !generation?.planned || generation.closed) return Number.POSITIVE_INFINITY;
    const { items, chunks } = generation.planned;
    const missing = items - sumCounts(generation.final);
    if (missing !== 0) return chunksOf(missing, items, chunks);
    const empty = sumCounts(book.counts) === 0 && book.manifest.onEmpty === 'fail';
    book.verdict = empty ? 'failed' : verdictOf(book.counts, book.manifest.tolerate, book.planFailed);
    book.state = 'closed';
    book.closedAt = this.#now();
    book.generations.set(book.generation, { ...generation, closed: true });
    closed.push(this.#closedFact(book, book.verdict, book.closedAt));
    return 0;
  }

  #closedFact(book: Book, verdict: RunVerdict, closedAt: number): RunClosed {
    const { runId, job, generation, tick, nominal, planned, openedAt } = book;
    return { runId, job, generation, tick, nominal, verdict, planned, counts: { ...book.counts }, openedAt, closedAt };
  }
}

/** The runs that a batch touches, in the order of locking. */
export function runsOf(batch: FactBatch): string[] {
  return [...new Set([...batch.opened, ...batch.planned, ...batch.planFailed, ...batch.settled].map(({ runId }) => runId))].sort();
}

function openRun(book: Book, fact: FactBatch['opened'][number]): void {
  if (!book.generations.has(fact.generation))
    book.generations.set(fact.generation, { planned: undefined, final: noCounts(), closed: false });
  book.trace = fact.trace;
  if (fact.generation > 0) return;
  book.nominal = fact.nominal;
  book.manifest = fact.manifest;
  book.openedAt = fact.openedAt;
}
