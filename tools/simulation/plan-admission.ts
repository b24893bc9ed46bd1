// What the planner's tables of jobs, ticks and runs answer when ticks are decided and runs opened.
import { dependenciesMet, formatInstant, type Instant, type JobManifest, type RunClosed, runIdOf, type Trace } from '@millrace/core';
import { decideTicks } from '../../services/planner/src/domain/decide-ticks.ts';
import type { AdmittedTicks, NewRun } from '../../services/planner/src/plan-store.ts';
import { newRun, type RunRow, type TickRow } from './plan-rows.ts';

export class PlanAdmission {
  readonly jobs = new Map<string, { manifest: JobManifest; lastNominal: Instant }>();
  readonly ticks = new Map<string, Map<Instant, TickRow>>();
  readonly runs = new Map<string, RunRow>();

  registerJob(manifest: JobManifest, startAfter: Instant): void {
    const known = this.jobs.get(manifest.name);
    if (!known) this.jobs.set(manifest.name, { manifest, lastNominal: startAfter });
    else if (known.manifest.revision !== manifest.revision) known.manifest = manifest;
  }

  admitTicks(manifest: JobManifest, until: Instant, now: Instant, traceOf: (runId: string) => Trace): AdmittedTicks {
    const { schedule, name } = manifest;
    const job = this.jobs.get(name);
    const decided = { ran: 0, skipped: 0, missed: 0 };
    const opened: string[] = [];
    const nothing = { opened, decided, lag: undefined };
    if (!schedule || !job) return nothing;
    const decision = decideTicks(schedule, job.lastNominal, Math.min(until, now), now);
    if (decision.lastNominal <= job.lastNominal) return nothing;
    const { missed } = decision;
    if (missed) this.#recordTick(name, { ...missed, result: 'missed' });
    decided.missed = missed?.ticks ?? 0;
    const newest = decision.run.at(-1);
    for (const nominal of decision.run) {
      const busy = schedule.overlap !== 'allow' && this.ofJob(name).some((run) => run.state !== 'closed');
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
      if (this.insertRun(run, waits ? 'waiting' : 'opened', now)) opened.push(runId);
      this.#recordTick(name, { ...record, result: 'ran' });
      decided.ran++;
    }
    job.lastNominal = decision.lastNominal;
    return { opened, decided, lag: newest === undefined ? undefined : Math.max(0, now - newest) };
  }

  insertRun(run: NewRun, state: 'opened' | 'waiting', now: Instant): boolean {
    if (this.runs.has(run.runId)) return false;
    this.runs.set(run.runId, newRun(run, state, now));
    return true;
  }

  /** Opens what waits behind a run that has closed. Returns the ids of the dependents. */
  openBehind(closed: RunClosed, dependents: readonly NewRun[], now: Instant): string[] {
    this.#promoteWaiting(closed.job, now);
    const opened: string[] = [];
    for (const dependent of dependents) {
      const causes = dependent.manifest.after.map(({ job }) => job);
      const atTick = [...this.runs.values()].filter(({ tick, job }) => tick === closed.tick && causes.includes(job));
      const verdicts = new Map(atTick.map(({ job, state, verdict }) => [job, state === 'closed' ? verdict : null]));
      if (dependenciesMet(dependent.manifest.after, verdicts) && this.insertRun(dependent, 'opened', now)) opened.push(dependent.runId);
    }
    return opened;
  }

  ofJob(job: string): RunRow[] {
    const found: RunRow[] = [];
    for (const run of this.runs.values()) if (run.job === job) found.push(run);
    return found;
  }

  /** The oldest waiting run of the job opens once nothing of it runs any more. */
  #promoteWaiting(job: string, now: Instant): void {
    if (!this.jobs.has(job)) return;
    const ofJob = this.ofJob(job);
    if (ofJob.some(({ state }) => state === 'opened' || state === 'planning' || state === 'running')) return;
    const waiting = ofJob.filter(({ state }) => state === 'waiting').sort((a, b) => (a.nominal ?? 0) - (b.nominal ?? 0))[0];
    if (!waiting) return;
    waiting.state = 'opened';
    waiting.openedAt = now;
  }

  #dropWaiting(job: string): void {
    for (const run of this.ofJob(job)) {
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
}
