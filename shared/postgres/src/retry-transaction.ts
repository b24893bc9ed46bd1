import { setTimeout as sleep } from 'node:timers/promises';

const ATTEMPTS = 5;

/** Runs a transaction again after a deadlock, a serialization failure or a lock timeout: nobody's fault, nothing was written. */
export async function retryTransaction<T>(once: () => Promise<T>, retryable: (error: unknown) => boolean): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await once();
    } catch (error) {
      if (attempt >= ATTEMPTS || !retryable(error)) throw error;
      await sleep(Math.random() * 20 * 2 ** attempt);
    }
  }
}
