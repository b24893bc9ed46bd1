import type { JobManifest, Milliseconds } from '@millrace/core';
import type { BudgetPolicy } from './budget.ts';

/** A chunk that was sent this often without an answer is left alone, and said so. */
export const EMIT_LIMIT = 5;
/** Chunks sent again because they may be lost: a tenth of what is sent anyway, and one a second when nothing is. */
export const REEMITS: BudgetPolicy = { share: 0.1, perSecond: 1, burst: 100 };

/** Chunks that a consumer may hold: twice what a processor takes of a job whose chunks are slow. */
const HELD = 8;
const SHORTEST: Milliseconds = 30_000;
/** Brokers take a message back that was not acknowledged for 30 minutes: nobody holds one for longer. */
const LONGEST: Milliseconds = 31 * 60_000;
/** A busy queue proves nothing; after this long without any progress of the run the chunk is lost, or nobody can help it. */
const HARD_DEADLINE: Milliseconds = 24 * 3_600_000;

/**
 * How long a run may be without progress before its chunks count as lost. Never a matter of age alone: what matters is where
 * a chunk can still be. Brokers tell how many messages are ready and how many consumers there are, not what consumers hold:
 *
 *   messages are ready             they may be among them, however slow the consumers are: the hard deadline
 *   none is ready, no consumers    nobody holds anything: a short grace, for what is being published just now
 *   none is ready, consumers       as long as they could need for all they may hold at once
 */
export function patienceWith(
  queue: { readonly ready: number; readonly consumers: number },
  manifest: Pick<JobManifest, 'concurrency' | 'timeout'>,
  chunkItems: number,
): Milliseconds {
  if (queue.ready > 0) return HARD_DEADLINE;
  if (queue.consumers === 0) return SHORTEST;
  if (manifest.timeout === 0) return LONGEST;
  const rounds = Math.ceil((HELD * chunkItems) / Math.max(1, manifest.concurrency));
  return Math.min(LONGEST, Math.max(SHORTEST, 2 * rounds * manifest.timeout));
}
