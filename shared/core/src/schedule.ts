import { Cron } from 'croner';
import { MillraceError, messageOf } from './errors.ts';
import type { Schedule } from './manifest.ts';
import type { Instant } from './time.ts';

/**
 * When a schedule is due. Pure: the time zone data of the runtime is the only outside input.
 * DST is croner's: a fixed hour inside a gap fires at the first valid instant after it, inside a fold once; day of
 * month and day of week are both honoured as "either", as in Vixie cron.
 */
export function checkSchedule(job: string, cron: readonly string[], timeZone: string): void {
  if (!knownZones.has(timeZone)) {
    try {
      new Intl.DateTimeFormat('en', { timeZone });
    } catch (cause) {
      throw new MillraceError('MR1003', `${JSON.stringify(timeZone)} in the schedule of job "${job}"`, { cause });
    }
    knownZones.add(timeZone);
  }
  for (const expression of cron) {
    const fields = expression.trim().split(/\s+/).length;
    if (fields !== 5 && fields !== 6) throw new MillraceError('MR1002', `"${expression}" in job "${job}" has ${fields} field(s)`);
    try {
      patternOf(expression, timeZone);
    } catch (cause) {
      throw new MillraceError('MR1002', `"${expression}" in job "${job}": ${messageOf(cause)}`, { cause });
    }
  }
}

/** The first instant after `after` at which the schedule is due, or undefined when it never is again. */
export function nextDue(schedule: Schedule, after: Instant): Instant | undefined {
  let first: Instant | undefined;
  for (const expression of schedule.cron) {
    const next = nextOf(patternOf(expression, schedule.timeZone), after);
    if (next !== undefined && (first === undefined || next < first)) first = next;
  }
  return first;
}

/** The last instant at or before `until` and after `after` at which the schedule was due. */
export function latestDue(schedule: Schedule, after: Instant, until: Instant): Instant | undefined {
  let latest: Instant | undefined;
  for (const expression of schedule.cron) {
    const [previous] = patternOf(expression, schedule.timeZone).cron.previousRuns(1, new Date(until + 1));
    const at = previous?.getTime();
    if (at !== undefined && at > after && at <= until && (latest === undefined || at > latest)) latest = at;
  }
  return latest;
}

/** Due instants in (`after`, `until`], oldest first, at most `limit`. */
export function dueBetween(schedule: Schedule, after: Instant, until: Instant, limit: number): Instant[] {
  const due: Instant[] = [];
  for (let at = nextDue(schedule, after); at !== undefined && at <= until && due.length < limit; at = nextDue(schedule, at)) due.push(at);
  return due;
}

/** Asking Intl costs more than all else a clock does to read a manifest. */
const knownZones = new Set<string>();

/** Answers kept of each pattern. */
const REMEMBERED = 4;

interface Pattern {
  readonly cron: Cron;
  /** The latest answers, the newest first: from `after` on, until it comes, the next instant is `next`. */
  readonly known: { after: Instant; readonly next: Instant | undefined }[];
}

const patterns = new Map<string, Pattern>();

/** Clocks and planners ask again and again before the next instant comes; walking a calendar costs far more than remembering. */
function nextOf(pattern: Pattern, after: Instant): Instant | undefined {
  const { known, cron } = pattern;
  for (const one of known) if (after >= one.after && (one.next === undefined || after < one.next)) return one.next;
  const next = cron.nextRun(new Date(after))?.getTime();
  const same = known.find((one) => one.next === next);
  if (same) same.after = after;
  else if (known.unshift({ after, next }) > REMEMBERED) known.pop();
  return next;
}

function patternOf(expression: string, timeZone: string): Pattern {
  const id = `${timeZone} ${expression}`;
  let pattern = patterns.get(id);
  if (!pattern) {
    pattern = { cron: new Cron(expression, { timezone: timeZone, paused: true }), known: [] };
    if (patterns.size > 10_000) patterns.clear();
    patterns.set(id, pattern);
  }
  return pattern;
}
