import { codeOf, type ErrorCode } from '@millrace/core';
import { describeError } from '@millrace/runtime';
import { EXIT } from './exit-codes.ts';

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  MR2001: EXIT.usage,
  MR2002: EXIT.notFound,
  MR2004: EXIT.notFound,
  MR2005: EXIT.notFound,
  MR2006: EXIT.refused,
  MR2007: EXIT.refused,
  MR4004: EXIT.refused,
  MR2008: EXIT.usage,
  MR2009: EXIT.usage,
  MR2010: EXIT.usage,
  MR1013: EXIT.usage,
  MR2011: EXIT.refused,
  MR3002: EXIT.auth,
  MR3004: EXIT.auth,
  MR3006: EXIT.auth,
  MR4003: EXIT.leak,
};

export function exitCodeOf(error: unknown): number {
  const code = codeOf(error);
  return (code && BY_CODE[code]) ?? EXIT.error;
}

/** What, the value, the fix. */
export function failureText(error: unknown): string {
  return describeError(error);
}
