// The planner's schema in memory. Long because it answers the whole PlanStore port, whose methods share these three tables; the
// contract suite (plan-store.contract.ts) holds it and the SQL of PostgresPlanStore to the same answers.
import {
  type ChunkSettled,
  dependenciesMet,
  formatInstant,
  type Instant,
  type JobManifest,
  keysIn,
  type Milliseconds,
  type RunClosed,
  runIdOf,
  type Trace,
} from '@millrace/core';
import type { BuiltChunk } from '../../services/planner/src/domain/chunk-builder.ts';
import { decideTicks } from '../../services/planner/src/domain/decide-ticks.ts';
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
import { type ChunkRow, newChunk, newRun, planningOf, type RunRow, redriveFacts, type TickRow } from './plan-rows.ts';

/** A chunk that was claimed and not confirmed by then is due again. */
const CONFIRM_BY: Milliseconds = 15_000;

/** A port whose answers are there at once. */
export type Immediate<Port> = {
  [Method in keyof Port]: Port[Method] extends (...args: infer Args) => Promise<infer Answer> ? (...args: Args) => Answer : never;
};

/** Every method is one transaction, and nothing else happens while it runs. */
export class PlanTables implements Immediate<PlanStore> {
  readonly jobs = new Map<string, { manifest: JobManifest; lastNominal: Instant }>();
  readonly ticks = new Map<string, Map<Instant, TickRow>>();
  readonly runs = new Map<string, RunRow>();
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
    const known = this.jobs.get(manifest.name);
    if (!known) this.jobs.set(manifest.name, { manifest, lastNominal: startAfter });
    else if (known.manifest.revision !== manifest.revision) known.manifest = manifest;
  }

  admitTicks(manifest: JobManifest, until: Instant, traceOf: (runId: string) => Trace): AdmittedTicks {
    const { schedule, name } = manifest;
    const job = this.jobs.get(name);
    const decided = { ran: 0, skipped: 0, missed: 0 };
    const opened: string[] = [];
    const nothing = { opened, decided, lag: undefined };
    if (!schedule || !job) return nothing;
    const now = this.#mutants.on('tick-admitted-early') ? Math.max(until, this.#now()) : this.#now();
    const decision = decideTicks(schedule, job.lastNominal, Math.min(until, now), now);
    if (decision.lastNominal <= job.lastNominal) return nothing;
    const { missed } = decision;
    if (missed) this.#recordTick(name, { ...missed, result: 'missed' });
    decided.missed = missed?.ticks ?? 0;
    const newest = decision.run.at(-1);
    for (const nominal of decision.run) {
      const busy = schedule.overlap !== 'allow' && this.#ofJob(name).some((run) => run.state !== 'closed');
      const waits = busy && (schedule.overlap === 'bufferOne' || nominal !== newest);
      const record = { nominal, through: nominal, ticks: 1 };
      if (busy && !waits) {
        decided.skipped++;
        this.#recordTick(name, { ...record, result: 'skipped' });
        continue;
      }
      if (waits && schedule.overlap === 'bufferOne') this.#dropWaiting(name);
      const tick = formatInstant(nominal);
      const runId = runIdOf(name, tick);
      const run: NewRun = { runId, tick, nominal, cause: 'tick', manifest, params: {}, limit: undefined, trace: traceOf(runId) };
      if (this.#insertRun(run, waits ? 'waiting' : 'opened')) opened.push(runId);
      this.#recordTick(name, { ...record, result: 'ran' });
      decided.ran++;
    }
    job.lastNominal = decision.lastNominal;
    return { opened, decided, lag: newest === undefined ? undefined : Math.max(0, now - newest) };
  }

  admitRun(run: NewRun): boolean {
    return this.#insertRun(run, 'opened');
  }

  admitClaimed(run: NewRun, lease: Milliseconds): PlanningRun | undefined {
    const row = this.#insertRun(run, 'opened') ? this.runs.get(run.runId) : undefined;
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

  appendChunks({ runId, epoch }: PlanningRun, chunks: readonly BuiltChunk[], progress: PlanProgress, window: number): number | undefined {
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
    const sent = Math.max(0, Math.min(chunks.length, window - run.chunks.filter(({ state }) => state === 'emitted').length));
    for (const [index, { seq, size, payload }] of chunks.entries()) {
      if (naive && run.chunks.some((chunk) => chunk.seq === seq)) continue;
      const emitted = index < sent;
      const chunk = newChunk({ generation: 0, seq, size, payload: payload.toString() }, emitted ? now + CONFIRM_BY : now);
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

  claimChunks({ jobs, window, limit, kind, throttled }: ChunkClaim): DueChunk[] {
    const now = this.#now();
    const claimed: DueChunk[] = [];
    const due = (chunk: ChunkRow, attempt: ChunkClaim['kind']) =>
      chunk.state === 'ready' && chunk.dueAt <= now && (attempt === 'first') === (chunk.attempt === 1);
    const sharing: { run: RunRow; free: number }[] = [];
    for (const run of this.runs.values()) {
      // What is spooled goes out as a whole, once its plan is sealed.
      const open = run.state === 'running' || (run.state === 'planning' && !run.manifest.spool);
      if (!open || !jobs.includes(run.job) || !run.chunks.some((chunk) => due(chunk, kind))) continue;
      if (kind === 'retry' && throttled.includes(run.job) && run.chunks.some((chunk) => due(chunk, 'first'))) continue;
      const free = window - run.chunks.filter((other) => other.state === 'emitted').length;
      if (free > 0) sharing.push({ run, free });
    }
    for (const { run, free } of sharing) {
      let room = Math.min(free, Math.ceil(limit / sharing.length));
      const inOrder = kind === 'first' ? run.chunks : [...run.chunks].sort((x, y) => x.dueAt - y.dueAt);
      for (const chunk of inOrder) {
        if (claimed.length >= limit) return claimed;
        if (!due(chunk, kind)) continue;
        if (room === 0) break;
        room--;
        chunk.state = 'emitted';
        chunk.emittedAt = undefined;
        chunk.dueAt = now + CONFIRM_BY;
        chunk.emits++;
        claimed.push({
          runId: run.runId,
          generation: chunk.generation,
          seq: chunk.seq,
          job: run.job,
          tick: run.tick,
          nominal: run.nominal,
          params: run.params,
          openedAt: run.openedAt,
          trace: run.trace,
          size: chunk.size,
          attempt: chunk.attempt,
          emits: chunk.emits,
          outcomes: chunk.outcomes ?? null,
          payload: (chunk.payload ?? run.chunks.find((c) => c.generation === 0 && c.seq === chunk.seq)?.payload) as string,
        });
      }
    }
    return claimed;
  }

  releaseChunks(chunks: readonly ChunkId[]): void {
    for (const id of chunks) {
      const chunk = this.#chunk(id);
      if (chunk?.state !== 'emitted') continue;
      chunk.state = 'ready';
      chunk.dueAt = this.#now();
      chunk.emits = Math.max(0, chunk.emits - 1);
    }
  }

  confirmChunks(chunks: readonly SentChunk[]): void {
    for (const id of chunks) {
      const chunk = this.#chunk(id);
      if (chunk?.state === 'emitted' && chunk.attempt === id.attempt && chunk.emits === id.emits) chunk.emittedAt ??= this.#now();
    }
  }

  releaseUnconfirmed(jobs: readonly string[]): number {
    const now = this.#now();
    let released = 0;
    for (const run of this.runs.values()) {
      if ((run.state !== 'running' && run.state !== 'planning') || !jobs.includes(run.job)) continue;
      for (const chunk of run.chunks) {
        if (chunk.state !== 'emitted' || chunk.emittedAt !== undefined || chunk.dueAt > now) continue;
        chunk.state = 'ready';
        chunk.dueAt = now;
        chunk.emits = Math.max(0, chunk.emits - 1);
        released++;
      }
    }
    return released;
  }

  waiting(jobs: readonly string[]): Waiting {
    const now = this.#now();
    let soonest: Instant | undefined;
    let held = false;
    for (const run of this.runs.values()) {
      if (run.state === 'closed' || !jobs.includes(run.job)) continue;
      for (const { state, dueAt } of run.chunks) {
        if (state !== 'ready') continue;
        if (dueAt <= now) held = true;
        else if (soonest === undefined || dueAt < soonest) soonest = dueAt;
      }
    }
    return { due: soonest === undefined ? undefined : soonest - now, held };
  }

  settleChunks(settled: readonly (ChunkSettled & { next: NextSending | undefined })[]): void {
    const now = this.#now();
    const attemptAfter = (fact: (typeof settled)[number]) => fact.next?.attempt ?? fact.attempt;
    const nextOf = (fact: (typeof settled)[number]) => fact.next?.attempt ?? Number.POSITIVE_INFINITY;
    const newest = new Map<ChunkRow, (typeof settled)[number]>();
    for (const fact of settled) {
      const chunk = this.#chunk(fact);
      if (!chunk) continue;
      const other = newest.get(chunk);
      // Of one attempt's facts the final one counts, then the one that leads to the next attempt.
      const later = !other || fact.attempt > other.attempt || (fact.attempt === other.attempt && nextOf(fact) > nextOf(other));
      if (later) newest.set(chunk, fact);
    }
    for (const [chunk, fact] of newest) {
      if (chunk.state === 'settled' || fact.attempt < chunk.attempt) continue;
      chunk.state = fact.next ? 'ready' : 'settled';
      chunk.attempt = attemptAfter(fact);
      if (fact.next) chunk.emits = 0;
      chunk.dueAt = now + (fact.next?.in ?? 0);
      chunk.outcomes = fact.outcomes;
      chunk.failures =
        fact.failures.length === 0
          ? undefined
          : Object.fromEntries(fact.failures.map(({ position, fingerprint }) => [position, fingerprint]));
      const run = this.runs.get(fact.runId);
      if (run) run.progressAt = now;
    }
  }

  /** For the planted bug that keeps retries in memory. */
  revive({ runId, generation, seq, next }: ChunkId & { readonly next: NextSending | undefined }): void {
    const chunk = this.#chunk({ runId, generation, seq });
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
    this.#promoteWaiting(closed.job);
    const opened: string[] = [];
    for (const dependent of dependents) {
      const causes = dependent.manifest.after.map(({ job }) => job);
      const atTick = [...this.runs.values()].filter(({ tick, job }) => tick === closed.tick && causes.includes(job));
      const verdicts = new Map(atTick.map(({ job, state, verdict }) => [job, state === 'closed' ? verdict : null]));
      if (dependenciesMet(dependent.manifest.after, verdicts) && this.#insertRun(dependent, 'opened')) opened.push(dependent.runId);
    }
    return opened;
  }

  /** The oldest waiting run of the job opens once nothing of it runs any more. */
  #promoteWaiting(job: string): void {
    if (!this.jobs.has(job)) return;
    const ofJob = this.#ofJob(job);
    if (ofJob.some(({ state }) => state === 'opened' || state === 'planning' || state === 'running')) return;
    const waiting = ofJob.filter(({ state }) => state === 'waiting').sort((a, b) => (a.nominal ?? 0) - (b.nominal ?? 0))[0];
    if (!waiting) return;
    waiting.state = 'opened';
    waiting.openedAt = this.#now();
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
    let reset = 0;
    for (const run of this.#ofJob(job)) {
      for (const chunk of run.chunks) {
        if (chunk.state !== 'emitted') continue;
        chunk.state = 'ready';
        chunk.dueAt = this.#now();
        chunk.emits = 1;
        reset++;
      }
    }
    return reset;
  }

  resetStalled(job: string, idle: Milliseconds, limit: number, most: number): { reset: number; stalled: number } {
    const now = this.#now();
    const idling: ChunkRow[] = [];
    for (const run of this.#ofJob(job)) {
      if (run.state === 'closed') continue;
      for (const chunk of run.chunks)
        if (chunk.state === 'emitted' && chunk.emittedAt !== undefined && Math.max(chunk.emittedAt, run.progressAt) < now - idle)
          idling.push(chunk);
    }
    const taken = idling
      .filter(({ emits }) => emits <= limit)
      .sort((a, b) => (a.emittedAt ?? 0) - (b.emittedAt ?? 0))
      .slice(0, most);
    for (const chunk of taken) {
      chunk.state = 'ready';
      chunk.dueAt = now;
    }
    return { reset: taken.length, stalled: idling.filter(({ emits }) => emits > limit).length };
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

  #ofJob(job: string): RunRow[] {
    const found: RunRow[] = [];
    for (const run of this.runs.values()) if (run.job === job) found.push(run);
    return found;
  }

  #insertRun(run: NewRun, state: 'opened' | 'waiting'): boolean {
    if (this.runs.has(run.runId)) return false;
    this.runs.set(run.runId, newRun(run, state, this.#now()));
    return true;
  }

  #dropWaiting(job: string): void {
    for (const run of this.#ofJob(job)) {
      if (run.state !== 'waiting') continue;
      this.runs.delete(run.runId);
      const tick = run.nominal === null ? undefined : this.ticks.get(job)?.get(run.nominal);
      if (tick) tick.result = 'skipped';
    }
  }

  #recordTick(job: string, tick: TickRow): void {
    const ticks = this.ticks.get(job) ?? new Map<Instant, TickRow>();
    this.ticks.set(job, ticks);
    if (!ticks.has(tick.nominal)) ticks.set(tick.nominal, tick);
  }

  #chunk({ runId, generation, seq }: ChunkId): ChunkRow | undefined {
    return this.runs.get(runId)?.chunks.find((chunk) => chunk.seq === seq && chunk.generation === generation);
  }
}

function clone<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
