import { type Milliseconds, MillraceError, parseDuration } from '@millrace/core';

export function usage(detail: string): MillraceError {
  return new MillraceError('MR2009', detail);
}

/** `--timeout`; undefined waits for ever. */
export function timeoutOf(text: string | undefined): Milliseconds | undefined {
  if (text === undefined) return undefined;
  const ms = parseDuration(text);
  if (ms === undefined) throw usage(`--timeout ${JSON.stringify(text)} is no duration; write it as 90s or 10m`);
  return ms;
}

/** `--param n=3 --param name=Ann`: what reads as JSON is taken as such, the rest as text. */
export function paramsOf(pairs: readonly string[]): Record<string, unknown> {
  const params: Record<string, unknown> = {};
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    if (at <= 0) throw usage(`--param ${JSON.stringify(pair)}; write it as name=value`);
    const text = pair.slice(at + 1);
    let value: unknown = text;
    try {
      value = JSON.parse(text);
    } catch {
      // Text.
    }
    Object.defineProperty(params, pair.slice(0, at), { value, enumerable: true, configurable: true, writable: true });
  }
  return params;
}
