/** What scripts rely on: see `docs/cli.md`. */
export const EXIT = {
  ok: 0,
  error: 1,
  usage: 2,
  notFound: 3,
  auth: 4,
  failed: 5,
  partial: 6,
  cancelled: 7,
  timeout: 8,
  leak: 9,
  refused: 10,
} as const;

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
