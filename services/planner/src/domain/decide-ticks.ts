import { dueBetween, type Instant, latestDue, type Schedule } from '@millrace/core';

/** What becomes of the nominal ticks since the last decision. Every one of them gets exactly one record. */
export interface TickDecision {
  /** To be run, oldest first. */
  readonly run: readonly Instant[];
  /** Too late by the catch-up policy: one stretch. */
  readonly missed: { readonly nominal: Instant; readonly through: Instant; readonly ticks: number } | undefined;
  /** All ticks up to here are decided. */
  readonly lastNominal: Instant;
}

/** Ticks decided in one go; more are decided by the next scan. */
const LIMIT = 10_000;
/** With catch-up `none`, a tick this late still counts as on time. */
const ON_TIME = 60_000;

/** Pure: `now` is the database's clock, the only authority for "due". */
export function decideTicks(schedule: Schedule, lastNominal: Instant, until: Instant, now: Instant): TickDecision {
  const due = dueBetween(schedule, lastNominal, until, LIMIT);
  const last = due.at(-1);
  if (last === undefined) return { run: [], missed: undefined, lastNominal };
  const { mode, window } = schedule.catchUp;
  const oldest = now - (mode === 'none' ? ON_TIME : window);
  const newest = due.length < LIMIT ? last : (latestDue(schedule, last, until) ?? last);
  const run = due.filter((at) => at >= oldest && (mode !== 'latest' || at === newest));
  const late = due.filter((at) => !run.includes(at));
  const first = late[0];
  const through = late.at(-1);
  return {
    run,
    missed: first === undefined || through === undefined ? undefined : { nominal: first, through, ticks: late.length },
    lastNominal: last,
  };
}
