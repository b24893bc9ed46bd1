// What the planner's table of chunks answers about the window: what goes to the broker, what came back, what got lost.
import type { ChunkSettled, Instant, Milliseconds } from '@millrace/core';
import type { ChunkClaim, ChunkId, DueChunk, NextSending, Waiting } from '../../services/planner/src/plan-store.ts';
import type { ChunkRow, RunRow } from './plan-rows.ts';

/** A chunk that was claimed and not confirmed by then is due again. */
export const CONFIRM_BY: Milliseconds = 15_000;

type Settled = ChunkSettled & { readonly next: NextSending | undefined };

export function emittedOf(run: RunRow): number {
  return run.chunks.filter(({ state }) => state === 'emitted').length;
}

export function findChunk(runs: ReadonlyMap<string, RunRow>, { runId, generation, seq }: ChunkId): ChunkRow | undefined {
  return runs.get(runId)?.chunks.find((chunk) => chunk.seq === seq && chunk.generation === generation);
}

export function claimDue(runs: Iterable<RunRow>, { jobs, window, limit, kind, throttled }: ChunkClaim, now: Instant): DueChunk[] {
  const claimed: DueChunk[] = [];
  const due = (chunk: ChunkRow, attempt: ChunkClaim['kind']) =>
    chunk.state === 'ready' && chunk.dueAt <= now && (attempt === 'first') === (chunk.attempt === 1);
  const sharing: { run: RunRow; free: number }[] = [];
  for (const run of runs) {
    // What is spooled goes out as a whole, once its plan is sealed.
    const open = run.state === 'running' || (run.state === 'planning' && !run.manifest.spool);
    if (!open || !jobs.includes(run.job) || !run.chunks.some((chunk) => due(chunk, kind))) continue;
    if (kind === 'retry' && throttled.includes(run.job) && run.chunks.some((chunk) => due(chunk, 'first'))) continue;
    const free = window - emittedOf(run);
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
      claimed.push(dueChunk(run, chunk));
    }
  }
  return claimed;
}

function dueChunk(run: RunRow, chunk: ChunkRow): DueChunk {
  const { runId, job, tick, nominal, params, openedAt, trace } = run;
  const { generation, seq, size, attempt, emits, outcomes = null } = chunk;
  const payload = chunk.payload ?? run.chunks.find((other) => other.generation === 0 && other.seq === seq)?.payload;
  if (payload === undefined) throw new Error(`nobody has planned the items of ${runId}/${seq}`);
  return { runId, generation, seq, job, tick, nominal, params, openedAt, trace, size, attempt, emits, outcomes, payload };
}

export function releaseUnconfirmed(runs: Iterable<RunRow>, jobs: readonly string[], now: Instant): number {
  let released = 0;
  for (const run of runs) {
    if ((run.state !== 'running' && run.state !== 'planning') || !jobs.includes(run.job)) continue;
    for (const chunk of run.chunks) {
      if (chunk.state !== 'emitted' || chunk.emittedAt !== undefined || chunk.dueAt > now) continue;
      release(chunk, now);
      released++;
    }
  }
  return released;
}

/** As if it had not been sent this time. */
export function release(chunk: ChunkRow, now: Instant): void {
  chunk.state = 'ready';
  chunk.dueAt = now;
  chunk.emits = Math.max(0, chunk.emits - 1);
}

export function waitingOf(runs: Iterable<RunRow>, jobs: readonly string[], now: Instant): Waiting {
  let soonest: Instant | undefined;
  let held = false;
  for (const run of runs) {
    if (run.state === 'closed' || !jobs.includes(run.job)) continue;
    for (const { state, dueAt } of run.chunks) {
      if (state !== 'ready') continue;
      if (dueAt <= now) held = true;
      else if (soonest === undefined || dueAt < soonest) soonest = dueAt;
    }
  }
  return { due: soonest === undefined ? undefined : soonest - now, held };
}

export function settleChunks(runs: ReadonlyMap<string, RunRow>, settled: readonly Settled[], now: Instant): void {
  for (const [chunk, fact] of newestOf(runs, settled)) {
    if (chunk.state === 'settled' || fact.attempt < chunk.attempt) continue;
    chunk.state = fact.next ? 'ready' : 'settled';
    chunk.attempt = fact.next?.attempt ?? fact.attempt;
    if (fact.next) chunk.emits = 0;
    chunk.dueAt = now + (fact.next?.in ?? 0);
    chunk.outcomes = fact.outcomes;
    chunk.failures =
      fact.failures.length === 0
        ? undefined
        : Object.fromEntries(fact.failures.map(({ position, fingerprint }) => [position, fingerprint]));
    const run = runs.get(fact.runId);
    if (run) run.progressAt = now;
  }
}

/** Of one attempt's facts the final one counts, then the one that leads to the next attempt. */
function newestOf(runs: ReadonlyMap<string, RunRow>, settled: readonly Settled[]): ReadonlyMap<ChunkRow, Settled> {
  const nextOf = (fact: Settled) => fact.next?.attempt ?? Number.POSITIVE_INFINITY;
  const newest = new Map<ChunkRow, Settled>();
  for (const fact of settled) {
    const chunk = findChunk(runs, fact);
    if (!chunk) continue;
    const other = newest.get(chunk);
    const later = !other || fact.attempt > other.attempt || (fact.attempt === other.attempt && nextOf(fact) > nextOf(other));
    if (later) newest.set(chunk, fact);
  }
  return newest;
}

export function resetEmitted(runs: Iterable<RunRow>, now: Instant): number {
  let reset = 0;
  for (const run of runs) {
    for (const chunk of run.chunks) {
      if (chunk.state !== 'emitted') continue;
      chunk.state = 'ready';
      chunk.dueAt = now;
      chunk.emits = 1;
      reset++;
    }
  }
  return reset;
}

export function resetStalled(
  runs: Iterable<RunRow>,
  { idle, limit, most }: { readonly idle: Milliseconds; readonly limit: number; readonly most: number },
  now: Instant,
): { reset: number; stalled: number } {
  const idling: ChunkRow[] = [];
  for (const run of runs) {
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
