import { codeOf, type Failure, messageOf } from '@millrace/core';

/** Who is to blame for a failure, and whether another try may help. */
export interface Blame {
  readonly class: Failure['class'];
  readonly message: string;
  /** Milliseconds that the error asked to wait (Retry-After). */
  readonly retryAfter: number | undefined;
}

/** Longer texts are cut: a chunk's failures travel in one message. */
const LONGEST_MESSAGE = 500;
const NEVER_HELPS: readonly string[] = ['MR1005', 'MR1006', 'MR1007', 'MR1008'];

/**
 * Anything that user code throws. Unknown errors count as transient, since trying again is the cheaper mistake;
 * `transient: false`, a `PermanentError`, or a code that another try cannot mend make them permanent.
 */
export function classifyError(error: unknown, known?: Failure['class']): Blame {
  return { class: known ?? classOf(error), message: cut(messageOf(error)), retryAfter: retryAfterOf(error) };
}

export function isTransient(blame: Pick<Blame, 'class'>): boolean {
  return blame.class === 'transient' || blame.class === 'timeout';
}

export function cut(message: string): string {
  return message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE - 1)}…` : message;
}

/**
 * A fault of the surroundings, such as a lost connection: the whole delivery is tried again and no item pays for it.
 * SQL states: 08 connection, 25006 read-only server after a failover, 28 credentials, 53 resources, 57 intervention, 58 system, XX internal;
 * and what the database has already tried again five times.
 */
export function isInfrastructure(error: unknown): boolean {
  if (codeOf(error)?.startsWith('MR3')) return true;
  if (typeof error !== 'object' || error === null) return false;
  if ((error as { commitUnknown?: unknown }).commitUnknown === true) return true;
  const code = (error as { code?: unknown }).code;
  if (typeof code !== 'string')
    return /^(Connection terminated|Client has encountered|Cannot use a pool|timeout exceeded when trying to connect)/.test(
      messageOf(error),
    );
  return (
    isRetryableSql(error) || /^(08|28|53|57|58|XX)...$|^25006$/.test(code) || /^E(CONN|PIPE|HOST|NET|AI_|NOTFOUND|TIMEDOUT)/.test(code)
  );
}

/** Serialization failure, deadlock, lock timeout, cancelled statement: trying the transaction again is the remedy. */
export function isRetryableSql(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === '40001' || state === '40P01' || state === '55P03' || state === '57014';
}

/** The data is at fault (22 data, 23 constraint, 44 view check, P0 raised by a trigger): some rows are poisonous, the others are fine. */
export function isPoison(error: unknown): boolean {
  return /^(22|23|44|P0)/.test(sqlStateOf(error) ?? '');
}

/** Five characters: a class of two and a condition. Node's own codes (`EPIPE`) have no digit. */
export function sqlStateOf(error: unknown): string | undefined {
  const code = typeof error === 'object' && error !== null ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

function classOf(error: unknown): Failure['class'] {
  const code = codeOf(error);
  if (code === 'MR1014') return 'timeout';
  if (code !== undefined && NEVER_HELPS.includes(code)) return 'permanent';
  if (typeof error !== 'object' || error === null) return 'transient';
  const { transient, name } = error as { transient?: unknown; name?: unknown };
  if (transient === false || (transient === undefined && name === 'PermanentError')) return 'permanent';
  return 'transient';
}

function retryAfterOf(error: unknown): number | undefined {
  const asked = typeof error === 'object' && error !== null ? (error as { retryAfter?: unknown }).retryAfter : undefined;
  return typeof asked === 'number' && Number.isFinite(asked) && asked >= 0 ? Math.round(asked) : undefined;
}
