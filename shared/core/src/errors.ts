/**
 * Every error a user can meet has a code in this table. `docs/errors.md` lists the same codes; a test keeps both equal.
 * MR1xxx definitions and items · MR2xxx configuration and usage · MR3xxx infrastructure · MR4xxx data and messages.
 */
export const ERRORS = {
  MR1001: { title: 'Invalid job name', fix: 'Use a–z, 0–9 and "-", start with a letter, at most 63 characters.' },
  MR1002: { title: 'Invalid cron expression', fix: 'Give 5 or 6 fields, for example "*/15 * * * *" for every 15 minutes.' },
  MR1003: { title: 'Invalid time zone', fix: 'Use an IANA name such as "Europe/Berlin" or "UTC".' },
  MR1004: { title: 'Invalid job option', fix: 'Correct the option as described in docs/sdk.md.' },
  MR1005: { title: 'Missing item key', fix: 'Return a non-empty string or a finite number from `key` for every item.' },
  MR1006: {
    title: 'Item does not survive JSON',
    fix: 'Yield plain data: strings, finite numbers, booleans, null, arrays, objects. Turn dates into ISO text.',
  },
  MR1007: {
    title: 'Item too large',
    fix: 'Yield a reference and load the rest in `process`, or raise MILLRACE_PLANNER_LARGEST_ITEM.',
  },
  MR1008: { title: 'Effect of the wrong shape', fix: 'Return plain JSON data, `skip(reason)` or `reject(reason)` from `process`.' },
  MR1009: { title: 'Duplicate job name', fix: 'Give each job its own name; only one definition per name can be loaded.' },
  MR1010: { title: 'Jobs depend on each other in a circle', fix: 'Remove one `after` of the circle.' },
  MR1011: { title: 'Unknown job in `after`', fix: 'Name a job that is loaded, or remove the dependency.' },
  MR1012: { title: 'The item source failed', fix: 'Mend the error in `items`, then trigger the job again.' },
  MR1013: { title: 'Invalid parameters', fix: 'Pass parameters that match the schema in `params` of the job.' },
  MR1014: { title: 'Item timed out', fix: 'Raise `timeout`, or hand `signal` to whatever the item waits for.' },
  MR1015: { title: 'Commit of an effect failed', fix: 'Look at the cause: usually a constraint of the target table that this row breaks.' },
  MR1016: {
    title: 'Poisonous item',
    fix: 'Mend `process` for this item: alone in a process of its own, twice, it ended that process.',
  },
  MR2001: { title: 'Invalid configuration', fix: 'Correct the named options as described in docs/options.md.' },
  MR2002: { title: 'No jobs found', fix: 'Export at least one `defineJob(…)` from a file in the jobs folder, or set MILLRACE_JOBS.' },
  MR2003: { title: 'A job file failed to load', fix: 'Mend the error shown; `node --check` and your type checker help.' },
  MR2004: { title: 'Unknown job', fix: 'Run `millrace jobs` to see the jobs that are known.' },
  MR2005: { title: 'Unknown run', fix: 'Run `millrace runs ls` to see the runs that are known.' },
  MR2006: { title: 'Run not closed', fix: 'Wait until the run is closed: `millrace runs watch <run>`.' },
  MR2007: { title: 'Nothing to redrive', fix: 'The run has no item in the selection; `millrace failures <run>` shows what failed.' },
  MR2008: { title: 'Invalid request', fix: 'Correct the request as described at /openapi.json.' },
  MR2009: { title: 'Wrong usage', fix: 'See `millrace <command> --help`.' },
  MR2010: { title: 'Invalid trigger key', fix: 'Use 1 to 128 of A–Z, a–z, 0–9, "_", ".", ":" and "-".' },
  MR2011: { title: 'The job has no schedule', fix: 'Start it with `millrace run <job>`, or give it a `schedule`.' },
  MR3001: { title: 'Cannot reach PostgreSQL', fix: 'Check DATABASE_URL and that the server is up: `millrace doctor`.' },
  MR3002: { title: 'PostgreSQL refused the credentials', fix: 'Check user and password in DATABASE_URL.' },
  MR3003: { title: 'Cannot reach RabbitMQ', fix: 'Check AMQP_URL and that the server is up: `millrace doctor`.' },
  MR3004: { title: 'RabbitMQ refused the credentials', fix: 'Check user, password and virtual host in AMQP_URL.' },
  MR3005: { title: 'Cannot reach NATS', fix: 'Check NATS_URL and that the server is up: `millrace doctor`.' },
  MR3006: { title: 'NATS refused the credentials', fix: 'Check the user and password or token in NATS_URL.' },
  MR3007: { title: 'JetStream is not enabled', fix: 'Start nats-server with -js and a storage directory.' },
  MR3008: { title: 'Data directory is locked', fix: 'Stop the process named above, or set MILLRACE_DATA to another directory.' },
  MR3009: { title: 'Schema is newer than this code', fix: 'Deploy the newer version of Millrace, or restore the older database.' },
  MR3010: { title: 'Schema is older than this code', fix: 'Run `millrace migrate`.' },
  MR3011: {
    title: 'A queue or stream exists with other settings',
    fix: 'Delete it; Millrace declares it anew. A stream must have drained before, a work queue need not: its chunks come again from the plan.',
  },
  MR3012: { title: 'The database failed', fix: 'See the cause; `millrace doctor` tests the connection.' },
  MR3013: {
    title: 'The broker did not accept a message',
    fix: 'See the cause; the message is sent again as soon as the broker accepts it.',
  },
  MR3014: {
    title: 'A migration was changed after it ran',
    fix: 'Restore the migration file; write a new one instead of editing an old one.',
  },
  MR3015: {
    title: 'Cannot reach the console',
    fix: 'Check MILLRACE_URL and that a console runs there; without it, `millrace dev` in this folder is used.',
  },
  MR3016: {
    title: 'No process for suspicious items',
    fix: 'See the cause; such items are run in processes of their own, which load the jobs anew.',
  },
  MR4001: { title: 'Malformed message', fix: 'Look at the parked message; the producer sent data that the schema refuses.' },
  MR4002: { title: 'Unknown message version', fix: 'Deploy consumers before producers; then replay the parked message.' },
  MR4003: { title: 'The books do not balance', fix: 'The keys listed are lost or doubled: keep the run and report it.' },
  MR4004: {
    title: 'Run too old to work on',
    fix: 'Its inbox may be gone, so that effects could be applied twice: trigger a new run, or set MILLRACE_INBOX_RETENTION higher in time.',
  },
  MR4005: {
    title: 'Claimed items are gone',
    fix: 'The plan of their run has been deleted (MILLRACE_RETENTION) before this message came: trigger a new run.',
  },
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** What, the value, where; the fix comes from the table. Decide by `code`, never by `instanceof`. */
export class MillraceError extends Error {
  override readonly name = 'MillraceError';
  readonly code: ErrorCode;
  readonly fix: string;

  constructor(code: ErrorCode, detail: string, options: { cause?: unknown } = {}) {
    super(`${code} ${ERRORS[code].title}: ${detail}`, options);
    this.code = code;
    this.fix = ERRORS[code].fix;
  }
}

/** The code of an error that is, or that was caused by, a MillraceError. */
export function codeOf(error: unknown): ErrorCode | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const code = (at as { code?: unknown }).code;
    if (typeof code === 'string' && Object.hasOwn(ERRORS, code)) return code as ErrorCode;
  }
  return undefined;
}

/** The message of anything that can be thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
