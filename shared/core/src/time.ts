/** Milliseconds since the Unix epoch, UTC. */
export type Instant = number;
export type Milliseconds = number;

/** The only source of time for cores; the simulator and the tests bring their own. */
export interface Time {
  now(): Instant;
  /** Resolves after `duration`, or at once when `signal` aborts. Never rejects. */
  sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void>;
}

/** `2026-11-24T00:10:00Z`; milliseconds appear only when there are any. This text is part of run ids: never change it. */
export function formatInstant(instant: Instant): string {
  return new Date(instant).toISOString().replace('.000Z', 'Z');
}

/** The instant written as ISO 8601 with a zone, or undefined when the text is none. */
export function parseInstant(text: string): Instant | undefined {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/.test(text)) return undefined;
  const instant = Date.parse(text);
  return Number.isNaN(instant) ? undefined : instant;
}

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A duration: milliseconds, or a number with a unit: `'200ms'`, `'30s'`, `'15m'`, `'24h'`, `'7d'`. */
export type Duration = number | `${number}${keyof typeof UNITS}`;

/** The duration in milliseconds, or undefined when the value is no duration. */
export function parseDuration(value: unknown): Milliseconds | undefined {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? value : undefined;
  const match = typeof value === 'string' ? /^(\d{1,15}(?:\.\d{1,6})?)(ms|s|m|h|d)$/.exec(value) : null;
  return match ? Number(match[1]) * UNITS[match[2] as keyof typeof UNITS] : undefined;
}
