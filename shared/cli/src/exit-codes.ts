import { codeOf, type ErrorCode } from '@millrace/core';

/** What scripts rely on: see `docs/cli.md`. */
export const EXIT = { ok: 0, error: 1, usage: 2, notFound: 3, auth: 4, failed: 5, partial: 6, cancelled: 7, timeout: 8, leak: 9, refused: 10 } as const;

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  MR2001: EXIT.usage, MR2002: EXIT.notFound, MR2004: EXIT.notFound, MR2005: EXIT.notFound, MR2006: EXIT.refused, MR2007: EXIT.refused,
  MR2008: EXIT.usage, MR2009: EXIT.usage, MR2010: EXIT.usage, MR2011: EXIT.refused, MR3002: EXIT.auth, MR3004: EXIT.auth, MR3006: EXIT.auth, MR4003: EXIT.leak,
};

export function exitCodeOf(error: unknown): number {
  const code = codeOf(error);
  return (code && BY_CODE[code]) ?? EXIT.error;
}

export function exitCodeOfVerdict(verdict: string | null): number {
  switch (verdict) {
    case 'succeeded':
      return EXIT.ok;
    case 'partial':
      return EXIT.partial;
    case 'cancelled':
      return EXIT.cancelled;
    case 'failed':
    case 'expired':
      return EXIT.failed;
    default:
      return EXIT.error;
  }
}

/** Of many runs: failed outweighs partial, partial outweighs fine. */
export function worstExitCode(verdicts: readonly (string | null)[]): number {
  const codes: readonly number[] = verdicts.map(exitCodeOfVerdict);
  return [EXIT.error, EXIT.failed, EXIT.cancelled, EXIT.partial].find((code) => codes.includes(code)) ?? EXIT.ok;
}
