import type { Milliseconds, Time } from '@millrace/core';
import type { PlanningRun, PlanStore } from './plan-store.ts';

/** Another planner has the run; what is written from here on changes nothing. */
export class LostRun extends Error {}

/**
 * Keeps the lease of a run while `work` goes on, also when its source yields nothing for long. Once the lease is lost, or could not be
 * renewed in time, the signal that `work` was given aborts with `LostRun`: a planner that went to sleep must not go on asking the source.
 */
export async function withLease<T>(
  run: PlanningRun,
  { store, time, lease }: { readonly store: PlanStore; readonly time: Time; readonly lease: Milliseconds },
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const held = new AbortController();
  const over = new AbortController();
  const beating = beat();
  try {
    return await work(AbortSignal.any([signal, held.signal]));
  } finally {
    over.abort();
    await beating;
  }

  async function beat(): Promise<void> {
    let until = time.now() + lease;
    for (;;) {
      await time.sleep(lease / 3, over.signal);
      if (over.signal.aborted) return;
      const asked = time.now();
      // A database that is away decides nothing: the lease may still be ours until it runs out.
      const renewed = await store.renewLease(run, lease).catch(() => undefined);
      if (renewed === true) until = asked + lease;
      if (renewed === false || time.now() >= until) return held.abort(new LostRun());
    }
  }
}

/** The result of `work`, or the reason of the abort as soon as `signal` aborts: then nobody waits for `work` any more. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
