import { type Instant, type Milliseconds, parseInstant, type Time } from '@millrace/core';

interface Sleeper {
  readonly due: Instant;
  readonly wake: () => void;
}

/** Time that stands still until `advance` or `set` moves it. */
export class FakeTime implements Time {
  #now: Instant;
  readonly #sleepers = new Set<Sleeper>();

  /** Starts at `start`: milliseconds since the epoch, or an ISO instant. Defaults to 2026-01-01T00:00:00Z. */
  constructor(start: Instant | string = '2026-01-01T00:00:00Z') {
    this.#now = toInstant(start);
  }

  now(): Instant {
    return this.#now;
  }

  /** How many callers sleep now. */
  get sleepers(): number {
    return this.#sleepers.size;
  }

  sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = () => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      const sleeper: Sleeper = { due: this.#now + Math.max(0, duration), wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', wake, { once: true });
    });
  }

  /** Moves on by `duration`, waking sleepers at their own instants in order, and lets each do its work before the next wakes. */
  async advance(duration: Milliseconds): Promise<void> {
    const end = this.#now + duration;
    await settle();
    for (let next = this.#nextUntil(end); next !== undefined; next = this.#nextUntil(end)) {
      this.#now = Math.max(this.#now, next.due);
      next.wake();
      await settle();
    }
    this.#now = end;
  }

  /** A jump of the wall clock, also backwards: nobody wakes. */
  set(instant: Instant | string): void {
    this.#now = toInstant(instant);
  }

  #nextUntil(end: Instant): Sleeper | undefined {
    return [...this.#sleepers].filter((sleeper) => sleeper.due <= end).sort((a, b) => a.due - b.due)[0];
  }
}

/** One turn of the event loop, so that whoever woke has run as far as it can without I/O. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

function toInstant(value: Instant | string): Instant {
  const instant = typeof value === 'number' ? value : parseInstant(value);
  if (instant === undefined) throw new Error(`no instant: ${String(value)}; write it as 2026-01-01T00:00:00Z`);
  return instant;
}
