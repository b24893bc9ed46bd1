import { createHash } from 'node:crypto';
import { formatInstant, type Instant } from './time.ts';

/**
 * Every id is derived from what it names, so that a redelivery on any replica gives the same id and duplicates
 * collide. A run's id is its job and its tick: `sunrise-table@2026-11-24T00:10:00Z` or `sunrise-table@manual:k1`.
 */
export function runIdOf(job: string, tick: string): string {
  return `${job}@${tick}`;
}

/** The tick part of a schedule's run id. Jitter moves the firing, never this. */
export function tickOf(nominal: Instant): string {
  return formatInstant(nominal);
}

/** The tick part of a triggered run's id. */
export function manualTick(key: string): string {
  return `manual:${key}`;
}

export function splitRunId(runId: string): { job: string; tick: string } | undefined {
  const at = runId.indexOf('@');
  return at > 0 && at < runId.length - 1 ? { job: runId.slice(0, at), tick: runId.slice(at + 1) } : undefined;
}

/** A chunk keeps its number over all generations of its run; the generation says which pass over it. */
export function chunkIdOf(runId: string, generation: number, seq: number): string {
  return `${runId}/${generation}/${seq}`;
}

/** Stable over attempts and generations: give it to an outside API as its idempotency key. */
export function itemIdOf(runId: string, key: string): string {
  return shortHash(`${runId}\n${key}`);
}

/** Stable over attempts and generations, distinct per sink. */
export function effectIdOf(itemId: string, sink: string): string {
  return shortHash(`${itemId}\n${sink}`);
}

/** 128 bits of SHA-256 in hexadecimal. */
export function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

/** Job names stand in subjects, queue names, file names and URLs. */
export const JOB_NAME = /^[a-z][a-z0-9-]{0,62}$/;
/** Idempotency keys of triggers stand in run ids and subjects. */
export const TRIGGER_KEY = /^[A-Za-z0-9_.:-]{1,128}$/;
