import type { Time } from '@millrace/core';

/** setTimeout fires at once beyond this. */
const LONGEST = 2 ** 31 - 1;

/** The clock of this machine. */
export const systemTime: Time = {
  now: () => Date.now(),
  sleep: (duration, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const wake = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      const timer = setTimeout(wake, Math.min(Math.max(0, duration), LONGEST));
      signal?.addEventListener('abort', wake, { once: true });
    }),
};
