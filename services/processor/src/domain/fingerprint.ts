import { type Failure, shortHash } from '@millrace/core';

/** Failures of one cause share a fingerprint, whatever item they happened to: groups stay few and readable. */
export interface Fingerprint {
  readonly fingerprint: string;
  /** The message's first line without what differs from item to item; at most 120 characters. */
  readonly title: string;
}

const LONGEST_TITLE = 120;
/** In this order: what is most specific goes first, since the later patterns would eat its parts. */
const VARIABLE: readonly (readonly [RegExp, string])[] = [
  [/"[^"\n]{1,200}"|'[^'\n]{1,200}'|`[^`\n]{1,200}`|“[^”\n]{1,200}”/g, '<text>'],
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, '<uuid>'],
  [/\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b/gi, '<hex>'],
  [/\d+(?:[.,:]\d+)*/g, '<n>'],
];

export function normaliseMessage(message: string): string {
  let text = message;
  for (const [pattern, placeholder] of VARIABLE) text = text.replace(pattern, placeholder);
  return text.replace(/[ \t]+/g, ' ').trim();
}

export function fingerprintOf(job: string, failureClass: Failure['class'], message: string): Fingerprint {
  // A code such as MR1014 names the cause; it is no variable part.
  const code = /^MR\d{4}\b/.exec(message)?.[0] ?? '';
  const text = code + normaliseMessage(message.slice(code.length)).replace(/^(?=\S)/, code ? ' ' : '');
  const first = text.split('\n', 1)[0]?.trim() || failureClass;
  return {
    fingerprint: shortHash(`${job}\n${failureClass}\n${text}`).slice(0, 12),
    title: first.length > LONGEST_TITLE ? `${first.slice(0, LONGEST_TITLE - 1)}…` : first,
  };
}
