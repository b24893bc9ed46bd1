import { MillraceError, messageOf } from '@millrace/core';

/** SQL states after which the same transaction may simply be tried again. */
const RETRYABLE = new Set(['40001', '40P01', '55P03', '57014']);
const CREDENTIALS = new Set(['28P01', '28000', '3D000']);

export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

export function isRetryable(error: unknown): boolean {
  return RETRYABLE.has(sqlState(error) ?? '');
}

/** 53xxx: out of disk, memory or connections. 58xxx: its files cannot be read or written. No statement is to blame. */
const OUT_OF_ORDER = /^5[38]...$/;

/** Errors of the statement itself keep their SQL state; everything about the connection or the server gets a code of ours. */
export function translate(error: unknown, where: string): unknown {
  const state = sqlState(error);
  if (state !== undefined && CREDENTIALS.has(state)) return new MillraceError('MR3002', `${where}: ${messageOf(error)}`, { cause: error });
  if (state !== undefined && OUT_OF_ORDER.test(state))
    return new MillraceError('MR3012', `${where}: ${messageOf(error)}`, { cause: error });
  // 57P01–57P03: shut down, crashed, starting up. 08xxx: connection.
  if (state !== undefined && !/^(57P0[1-3]|08...)$/.test(state)) return error;
  if (state === undefined && !isConnectionError(error)) return error;
  return new MillraceError('MR3001', `${where}: ${messageOf(error) || String((error as { code?: string }).code)}`, { cause: error });
}

/** Errors of the socket and of `pg` about it; anything else without an SQL state comes from the caller's own code. */
function isConnectionError(error: unknown): boolean {
  const code = (error as { code?: unknown } | undefined)?.code;
  return (
    (typeof code === 'string' && /^E[A-Z]+$/.test(code)) ||
    /connection (terminated|timeout|ended)|timeout exceeded when trying to connect|client has encountered a connection error/i.test(
      messageOf(error),
    )
  );
}
