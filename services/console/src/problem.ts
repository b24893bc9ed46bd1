import { codeOf, ERRORS, type ErrorCode, messageOf } from '@millrace/core';
import Type from 'typebox';

/** RFC 9457 problem document with the error code and its fix. */
export const Problem = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  code: Type.Optional(Type.String()),
  fix: Type.Optional(Type.String()),
  instance: Type.Optional(Type.String()),
});

const STATUS: Partial<Record<ErrorCode, number>> = {
  MR2004: 404,
  MR2005: 404,
  MR2006: 409,
  MR2007: 409,
  MR2008: 400,
  MR2010: 400,
  MR2011: 409,
  MR1013: 400,
  MR4004: 409,
};

export interface ProblemDocument {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code?: string;
  readonly fix?: string;
  readonly instance?: string;
}

export function problemOf(error: unknown, instance: string): ProblemDocument {
  const thrown = error as { validation?: unknown; statusCode?: number };
  if (
    thrown.validation !== undefined ||
    (thrown.statusCode !== undefined && thrown.statusCode >= 400 && thrown.statusCode < 500 && codeOf(error) === undefined)
  ) {
    return documentOf('MR2008', messageOf(error), thrown.statusCode ?? 400, instance);
  }
  const code = codeOf(error);
  // Infrastructure: what failed is told by its code, its details stay in the log.
  if (code === undefined)
    return { type: 'about:blank', title: 'Internal error', status: 500, detail: 'The console failed; its log says why.', instance };
  const prefix = `${code} ${ERRORS[code].title}: `;
  const message = messageOf(error);
  return documentOf(
    code,
    message.startsWith(prefix) ? message.slice(prefix.length) : message,
    thrown.statusCode ?? STATUS[code] ?? 503,
    instance,
  );
}

function documentOf(code: ErrorCode, detail: string, status: number, instance: string): ProblemDocument {
  return { type: `urn:millrace:error:${code}`, title: ERRORS[code].title, status, detail, code, fix: ERRORS[code].fix, instance };
}
