import type { JobManifest, Milliseconds } from '@millrace/core';

/**
 * When attempt `attempt` + 1 is due: exponential backoff with full jitter, never sooner than the item's own Retry-After.
 * Source: "Exponential backoff and jitter", AWS Architecture Blog: full jitter spreads a herd best.
 */
export function retryDelay(policy: JobManifest['retry'], attempt: number, random: number, retryAfter: Milliseconds = 0): Milliseconds {
  const ceiling = policy.backoff === 'fixed' ? policy.base : Math.min(policy.max, policy.base * 2 ** (attempt - 1));
  const jittered = policy.backoff === 'fixed' ? ceiling : ceiling * random;
  return Math.round(Math.min(Math.max(jittered, retryAfter), Math.max(policy.max, policy.base)));
}
