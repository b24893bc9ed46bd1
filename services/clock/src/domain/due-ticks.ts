import { dueBetween, type Instant, type JobManifest, latestDue, type Milliseconds, nextDue, type Schedule } from '@millrace/core';

/** A nominal instant at which a job is due. */
export interface DueTick {
  readonly job: string;
  readonly nominal: Instant;
  readonly revision: string;
}

/** How far the ticks of one job have been emitted. */
export interface Emitted {
  readonly revision: string;
  /** Everything due at or before this instant is emitted. */
  readonly until: Instant;
  /** The first instant after `until` at which the job is due; undefined when it never is again. */
  readonly next: Instant | undefined;
}

export interface Due {
  /** Oldest first within a job. */
  readonly ticks: readonly DueTick[];
  /** Look again at this instant at the latest. */
  readonly wakeAt: Instant;
  /** What holds once `ticks` are published; until then the former one does. */
  readonly lastEmitted: ReadonlyMap<string, Emitted>;
}

/** Also bounds what a jump of the wall clock can delay. */
const LONGEST_WAIT: Milliseconds = 60_000;
const MOST_TICKS = 1_000;

/**
 * Which ticks to emit now. A job seen for the first time, or in a new revision, is due once: at its latest nominal
 * instant inside the catch-up window (the planner decides what to do about earlier ones). From then on every nominal
 * instant is emitted. When more than `limit` ticks are due the rest follows in the next call, at once.
 *
 * A wall clock that steps back makes ticks due a second time: their subject is taken already, so nothing comes of it.
 */
export function dueTicks(jobs: readonly JobManifest[], lastEmitted: ReadonlyMap<string, Emitted>, now: Instant, limit = MOST_TICKS): Due {
  const ticks: DueTick[] = [];
  const emitted = new Map<string, Emitted>();
  let wakeAt = now + LONGEST_WAIT;
  for (const { name: job, revision, schedule } of jobs) {
    if (!schedule) continue;
    const before = lastEmitted.get(job);
    if (ticks.length >= limit) {
      if (before) emitted.set(job, before);
      wakeAt = now;
      continue;
    }
    const due = before?.revision === revision ? dueSince(schedule, before, now, limit - ticks.length) : firstDue(schedule, now);
    for (const nominal of due.nominals) ticks.push({ job, nominal, revision });
    emitted.set(job, { revision, until: due.until, next: due.next });
    if (due.next !== undefined) wakeAt = Math.min(wakeAt, Math.max(due.next, now));
  }
  return { ticks, wakeAt, lastEmitted: emitted };
}

interface DueOfJob {
  readonly nominals: readonly Instant[];
  readonly until: Instant;
  readonly next: Instant | undefined;
}

function firstDue(schedule: Schedule, now: Instant): DueOfJob {
  const { mode, window } = schedule.catchUp;
  const latest = mode === 'none' ? undefined : latestDue(schedule, now - window - 1, now);
  return { nominals: latest === undefined ? [] : [latest], until: now, next: nextDue(schedule, now) };
}

function dueSince(schedule: Schedule, { until, next }: Emitted, now: Instant, limit: number): DueOfJob {
  if (now < until) return { nominals: [], until: now, next: nextDue(schedule, now) };
  // Finding the next instant is dear compared to this comparison, which is all that most calls need.
  if (next === undefined || next > now) return { nominals: [], until: now, next };
  const nominals = [next, ...dueBetween(schedule, next, now, limit - 1)];
  const last = nominals[nominals.length - 1] ?? next;
  return { nominals, until: nominals.length === limit ? last : now, next: nextDue(schedule, last) };
}
