import { MillraceError } from '@millrace/core';

/** An error for people: what and how to mend it, without a stack; anything unforeseen with all there is. */
export function describeError(error: unknown): string {
  const known = millraceErrors(error);
  const outermost = known[0];
  if (outermost !== error || !outermost) return error instanceof Error ? (error.stack ?? error.message) : String(error);
  // The innermost knows best what to do: a job file failed to load, because its cron expression is wrong.
  return `${outermost.message}\n  fix: ${known[known.length - 1]?.fix ?? outermost.fix}`;
}

function millraceErrors(error: unknown): MillraceError[] {
  const known: MillraceError[] = [];
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) if (isMillraceError(at)) known.push(at);
  return known;
}

/** By name: another copy of the package may have made it. */
function isMillraceError(error: Error): error is MillraceError {
  return error.name === MillraceError.name && 'code' in error && 'fix' in error;
}
