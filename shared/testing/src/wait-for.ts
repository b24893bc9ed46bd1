export interface WaitOptions {
  /** Milliseconds until it gives up. Defaults to 10,000. */
  readonly timeout?: number;
  /** Milliseconds between two looks. Defaults to 20. */
  readonly interval?: number;
  /** What is awaited, for the error message. */
  readonly what?: string;
}

/**
 * Looks at `condition` until it gives something truthy, and returns that. A condition that throws is not yet fulfilled.
 * Throws after `timeout`, with the last error as cause.
 */
export async function waitFor<T>(condition: () => T | Promise<T>, options: WaitOptions = {}): Promise<NonNullable<T>> {
  const { timeout = 10_000, interval = 20, what = condition.toString() } = options;
  const deadline = performance.now() + timeout;
  for (;;) {
    let cause: unknown;
    let value: T | undefined;
    try {
      value = await condition();
      if (value) return value;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= deadline) {
      const seen = cause === undefined ? `last value: ${String(value)}` : `last error: ${String(cause)}`;
      throw new Error(`waited ${timeout} ms in vain for: ${what} (${seen})`, { cause });
    }
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}
