// The planner's schema in memory, with plan-admission.ts and plan-window.ts. The contract suite (plan-store.contract.ts) holds it and
// the SQL of PostgresPlanStore to the same answers.
import { type ChunkSettled, type Instant, type JobManifest, keysIn, type Milliseconds, type RunClosed, type Trace } from '@millrace/core';
import type { BuiltChunk } from '../../services/planner/src/domain/chunk-builder.ts';
import { selectRedrive } from '../../services/planner/src/domain/select-redrive.ts';
import type {
  AdmittedTicks,
  ChunkClaim,
  ChunkId,
  DueChunk,
  NewRun,
  NextSending,
  OwedFact,
  PlanningRun,
  PlanProgress,
  PlanStore,
  RedriveRequest,
  SentChunk,
  Waiting,
} from '../../services/planner/src/plan-store.ts';
import type { Mutants } from './mutants.ts';
import { PlanAdmission } from './plan-admission.ts';
import { newChunk, planningOf, type RunRow, redriveFacts, type TickRow } from './plan-rows.ts';
import * as window from './plan-window.ts';

/** A port whose answers are there at once. */
export type Immediate<Port> = {
  [Method in keyof Port]: Port[Method] extends (...args: infer Args) => Promise<infer Answer> ? (...args: Args) => Answer : never;
};

/** Every method is one transaction, and nothing else happens while it runs. */
export class PlanTables implements Immediate<PlanStore> {
  readonly #admission = new PlanAdmission();
  readonly ticks: ReadonlyMap<string, ReadonlyMap<Instant, TickRow>> = this.#admission.ticks;
  readonly runs: ReadonlyMap<string, RunRow> = this.#admission.runs;
  readonly #now: () => Instant;
  readonly #mutants: Mutants;

  constructor(now: () => Instant, mutants: Mutants) {
    this.#now = now;
    this.#mutants = mutants;
  }

  now(): Instant {
    return Math.floor(this.#now());
  }

  registerJob(manifest: JobManifest, startAfter: Instant): void {
    this.#admission.registerJob(manifest, startAfter);
  }

  admitTicks(manifest: JobManifest, until: Instant, traceOf: (runId: string) => Trace): AdmittedTicks {
    const now = this.#mutants.on('tick-admitted-early') ? Math.max(until, this.#now()) : this.#now();
    return this.#admission.admitTicks(manifest, until, now, traceOf);
  }

  admitRun(run: NewRun): boolean {
    return this.#admission.insertRun(run, 'opened', this.#now());
  }

  admitClaimed(run: NewRun, lease: Milliseconds): PlanningRun | undefined {
    const row = this.admitRun(run) ? this.runs.get(run.runId) : undefined;
    return row && this.#claim(row, lease);
  }

  claimRun(jobs: readonly string[], lease: Milliseconds): PlanningRun | undefined {
    const now = this.#now();
    let oldest: RunRow | undefined;
    for (const run of this.runs.values()) {
      if (run.state === 'closed' || run.state === 'running' || !jobs.includes(run.job)) continue;
      const free = run.leaseUntil !== undefined && run.leaseUntil < now;
      if (!(run.state === 'opened' ? free || run.leaseUntil === undefined : run.state === 'planning' && free)) continue;
      if (!oldest || run.openedAt < oldest.openedAt) oldest = run;
    }
    return oldest && this.#claim(oldest, lease);
  }

  #claim(run: RunRow, lease: Milliseconds): PlanningRun {
    run.state = 'planning';
    run.epoch++;
    run.leaseUntil = this.#now() + lease;
    return planningOf(run);
  }

  appendChunks({ runId, epoch }: PlanningRun, chunks: readonly BuiltChunk[], progress: PlanProgress, room: number): number | undefined {
    const run = this.runs.get(runId);
    const naive = this.#mutants.on('no-epoch-check');
    const first = chunks[0]?.seq;
    if (!run) return undefined;
    if (!naive && (run.epoch !== epoch || run.state !== 'planning' || (first !== undefined && run.nextSeq !== first))) return undefined;
    const now = this.#now();
    run.cursor = progress.cursor === undefined ? undefined : clone(progress.cursor);
    run.items = progress.items;
    run.duplicates = progress.duplicates;
    run.nextSeq = naive ? Math.max(run.nextSeq, (chunks.at(-1)?.seq ?? -1) + 1) : run.nextSeq + chunks.length;
    const sent = Math.max(0, Math.min(chunks.length, room - window.emittedOf(run)));
    for (const [index, { seq, size, payload }] of chunks.entries()) {
      if (naive && run.chunks.some((chunk) => chunk.seq === seq)) continue;
      const emitted = index < sent;
      const chunk = newChunk({ generation: 0, seq, size, payload: payload.toString() }, emitted ? now + window.CONFIRM_BY : now);
      run.chunks.push(emitted ? { ...chunk, state: 'emitted', emits: 1 } : chunk);
    }
    return sent;
  }

  seal(
    { runId, epoch }: PlanningRun,
    facts: readonly OwedFact[],
    duplicates: number,
    failure?: { code: string; message: string },
  ): boolean {
    const run = this.runs.get(runId);
    if (run?.state !== 'planning' || (run.epoch !== epoch && !this.#mutants.on('no-epoch-check'))) return false;
    run.state = 'running';
    run.sealed = failure === undefined;
    run.leaseUntil = undefined;
    run.duplicates = duplicates;
    run.facts = clone(facts);
    run.owed = true;
    run.progressAt = this.#now();
    return true;
  }

  renewLease(held: PlanningRun, lease: Milliseconds): boolean {
    const run = this.#held(held);
    if (run) run.leaseUntil = this.#now() + lease;
    return run !== undefined;
  }

  discardPlan(held: PlanningRun): boolean {
    const run = this.#held(held);
    if (!run) return false;
    run.cursor = undefined;
    run.nextSeq = 0;
    run.items = 0;
    run.duplicates = 0;
    run.chunks.length = 0;
    return true;
  }

  postponePlanning(held: PlanningRun, pause: Milliseconds, failed = false): void {
    const run = this.#held(held);
    if (!run) return;
    run.leaseUntil = this.#now() + pause;
    if (failed) run.failures++;
  }

  expireLeases(): void {
    for (const run of this.runs.values()) if (run.state === 'planning') run.leaseUntil = this.#now() - 1_000;
  }

  storedKeys(runId: string, fromSeq: number, chunks: number): { seq: number; keys: readonly string[] }[] {
    const stored = (this.runs.get(runId)?.chunks ?? []).filter((chunk) => chunk.generation === 0 && chunk.seq >= fromSeq);
    return stored
      .sort((a, b) => a.seq - b.seq)
      .slice(0, chunks)
      .map(({ seq, payload }) => ({ seq, keys: keysIn(payload ?? '[]') }));
  }

  claimChunks(claim: ChunkClaim): DueChunk[] {
    return window.claimDue(this.runs.values(), claim, this.#now());
  }

  releaseChunks(chunks: readonly ChunkId[]): void {
    for (const id of chunks) {
      const chunk = window.findChunk(this.runs, id);
      if (chunk?.state === 'emitted') window.release(chunk, this.#now());
    }
  }

  confirmChunks(chunks: readonly SentChunk[]): void {
    for (const id of chunks) {
      const chunk = window.findChunk(this.runs, id);
      if (chunk?.state === 'emitted' && chunk.attempt === id.attempt && chunk.emits === id.emits) chunk.emittedAt ??= this.#now();
    }
  }

  releaseUnconfirmed(jobs: readonly string[]): number {
    return window.releaseUnconfirmed(this.runs.values(), jobs, this.#now());
  }

  waiting(jobs: readonly string[]): Waiting {
    return window.waitingOf(this.runs.values(), jobs, this.#now());
  }

  settleChunks(settled: readonly (ChunkSettled & { next: NextSending | undefined })[]): void {
    window.settleChunks(this.runs, settled, this.#now());
  }

  /** For the planted bug that keeps retries in memory. */
  revive({ runId, generation, seq, next }: ChunkId & { readonly next: NextSending | undefined }): void {
    const chunk = window.findChunk(this.runs, { runId, generation, seq });
    if (!chunk || !next || chunk.state !== 'settled' || chunk.attempt >= next.attempt) return;
    chunk.state = 'ready';
    chunk.attempt = next.attempt;
    chunk.dueAt = this.#now();
  }

  closeRun(closed: RunClosed, dependents: readonly NewRun[]): string[] | 'behind' {
    const run = this.runs.get(closed.runId);
    if (run?.generation === closed.generation) {
      const behind = run.chunks.some(({ generation, state }) => generation === closed.generation && state !== 'settled');
      if (behind && !this.#mutants.on('closed-before-settled')) return 'behind';
      run.state = 'closed';
      run.verdict = closed.verdict;
    }
    return this.#admission.openBehind(closed, dependents, this.#now());
  }

  /** A simulated world is younger than any retention. */
  purge(): 'done' {
    return 'done';
  }

  redrive(request: RedriveRequest): 'opened' | 'known' | 'open' | 'unknown' | 'empty' {
    const run = this.runs.get(request.runId);
    if (!run) return 'unknown';
    if (run.generation >= request.generation && !this.#mutants.on('redrive-repeats')) return 'known';
    if (run.state !== 'closed') return 'open';
    const touched = new Set(run.chunks.filter(({ outcomes }) => /[xrce]/.test(outcomes ?? '')).map(({ seq }) => seq));
    const layers = run.chunks
      .filter((chunk) => chunk.outcomes !== undefined && touched.has(chunk.seq))
      .sort((a, b) => a.seq - b.seq || a.generation - b.generation)
      .map(({ seq, size, outcomes, failures, payload }) => ({
        seq,
        size,
        outcomes: outcomes as string,
        failures: failures ?? null,
        payload: request.keys ? (payload ?? null) : null,
      }));
    const generation = run.generation + 1;
    const selected = selectRedrive(layers, request);
    if (selected.items === 0) return 'empty';
    const now = this.#now();
    for (const { seq, size, outcomes } of selected.chunks)
      run.chunks.push({ ...newChunk({ generation, seq, size, payload: undefined }, now), outcomes });
    const { items, replaced } = selected;
    run.facts = [...run.facts, ...redriveFacts(run, { generation, chunks: selected.chunks.length, items, replaced }, now)];
    run.owed = true;
    run.generation = generation;
    run.state = 'running';
    run.verdict = null;
    run.trace = request.trace;
    run.progressAt = now;
    run.told = 0;
    return 'opened';
  }

  resetEmitted(job: string): number {
    return window.resetEmitted(this.#admission.ofJob(job), this.#now());
  }

  resetStalled(job: string, idle: Milliseconds, limit: number, most: number): { reset: number; stalled: number } {
    return window.resetStalled(this.#admission.ofJob(job), { idle, limit, most }, this.#now());
  }

  tellAgain(jobs: readonly string[], idle: Milliseconds): string[] {
    const now = this.#now();
    const told: string[] = [];
    for (const run of this.runs.values()) {
      if (!jobs.includes(run.job) || run.progressAt > now - idle * 2 ** Math.min(run.told, 7)) continue;
      if (run.state !== 'running' && !(idle === 0 && run.state === 'planning')) continue;
      if (idle !== 0 && run.chunks.some((chunk) => chunk.state !== 'settled')) continue;
      run.owed = true;
      run.progressAt = now;
      if (idle !== 0) run.told++;
      told.push(run.runId);
      for (const chunk of run.chunks) {
        if (chunk.state !== 'settled') continue;
        chunk.state = 'ready';
        chunk.dueAt = now;
        chunk.emits = 0;
      }
    }
    return told;
  }

  owedFacts(limit: number): { runId: string; facts: readonly OwedFact[]; trace: Trace }[] {
    const owing: { runId: string; facts: readonly OwedFact[]; trace: Trace }[] = [];
    for (const { owed, runId, facts, trace } of this.runs.values()) if (owed && owing.length < limit) owing.push({ runId, facts, trace });
    return owing;
  }

  /** Seconds since the oldest run that is not closed was opened, by job. */
  oldestOpen(): ReadonlyMap<string, number> {
    const oldest = new Map<string, number>();
    for (const { job, state, openedAt } of this.runs.values())
      if (state !== 'closed') oldest.set(job, Math.max(oldest.get(job) ?? 0, (this.#now() - openedAt) / 1_000));
    return oldest;
  }

  clearOwed(runId: string, told: number): void {
    const run = this.runs.get(runId);
    if (run?.facts.length === told) run.owed = false;
  }

  /** The run, as long as nobody else has taken it. */
  #held({ runId, epoch }: PlanningRun): RunRow | undefined {
    const run = this.runs.get(runId);
    return run?.epoch === epoch && run.state === 'planning' ? run : undefined;
  }
}

function clone<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
