import { codeOf, type Instant, type Milliseconds, MillraceError, messageOf, type Time } from '@millrace/core';
import type { Log } from 'millrace';

const FIRST_PAUSE: Milliseconds = 250;
const LONGEST_PAUSE: Milliseconds = 30_000;
/** Longer wishes (Retry-After) are cut: chunks are held meanwhile, and the broker's patience ends. */
const LONGEST_REST: Milliseconds = 10 * 60_000;

export interface Patience {
  /** Afterwards nothing is tried again and nobody waits. */
  readonly until: Instant;
  readonly signal: AbortSignal;
}

/**
 * Keeps work from what is out of order. While it is open, callers are held with what they have in their hands, instead of giving it
 * back to a broker that would only deliver it again; one of them at a time tries whether the trouble is over.
 *
 *   closed ──failure──▶ open ──pause is over──▶ trying (one caller) ──well──▶ closed
 *                         ▲── a longer pause, with jitter ── failure ──┘
 */
export class Breaker {
  readonly #what: string;
  readonly #time: Time;
  readonly #random: () => number;
  readonly #log: Log;
  /** Failures in a row; those of calls that began before the latest one count once together. */
  #failures = 0;
  #opensAt: Instant = 0;
  #trying = false;
  #error: unknown;
  readonly #waiting = new Set<() => void>();

  /** `what` completes "cannot use …". */
  constructor(what: string, time: Time, random: () => number, log: Log) {
    this.#what = what;
    this.#time = time;
    this.#random = random;
    this.#log = log;
  }

  get closed(): boolean {
    return this.#failures === 0;
  }

  /** What is wrong, for /readyz; undefined when nothing is. */
  get trouble(): string | undefined {
    return this.#failures === 0 ? undefined : `cannot use ${this.#what}: ${messageOf(this.#error)}`;
  }

  /** Tries `work` until it succeeds, or patience is over: then rejects with the latest error. Data that is wrong (MR4…) is no trouble. */
  async run<T>(work: () => Promise<T>, patience: Patience): Promise<T> {
    for (;;) {
      await this.#enter(patience);
      const seen = this.#failures;
      try {
        const value = await work();
        this.#succeeded();
        return value;
      } catch (error) {
        if (codeOf(error)?.startsWith('MR4')) {
          this.#succeeded();
          throw error;
        }
        this.#failed(error, seen);
        if (this.#isOver(patience)) throw error;
      }
    }
  }

  /** Waits while a pause lasts, so that no work is begun that could not be finished. */
  async rest({ until, signal }: Patience): Promise<void> {
    const wait = Math.min(this.#opensAt, until) - this.#time.now();
    if (wait > 0 && !signal.aborted) await this.#time.sleep(wait, signal);
  }

  /** The other side asked to be left alone for a while (Retry-After). */
  pause(duration: Milliseconds): void {
    this.#opensAt = Math.max(this.#opensAt, this.#time.now() + Math.min(duration, LONGEST_REST));
  }

  async #enter(patience: Patience): Promise<void> {
    for (;;) {
      await this.rest(patience);
      if (this.#failures === 0) return;
      if (this.#isOver(patience)) throw this.#error ?? new MillraceError('MR3012', `no time to wait for ${this.#what}`);
      if (!this.#trying && this.#opensAt <= this.#time.now()) {
        this.#trying = true;
        return;
      }
      await this.#change(patience);
    }
  }

  #isOver({ until, signal }: Patience): boolean {
    return signal.aborted || this.#time.now() >= until;
  }

  async #change({ until, signal }: Patience): Promise<void> {
    const changed = new AbortController();
    const wake = () => changed.abort();
    this.#waiting.add(wake);
    await this.#time.sleep(Math.max(0, until - this.#time.now()), AbortSignal.any([changed.signal, signal]));
    this.#waiting.delete(wake);
  }

  #succeeded(): void {
    if (this.#failures > 0) this.#log.info({ failures: this.#failures }, `can use ${this.#what} again`);
    this.#failures = 0;
    this.#trying = false;
    this.#error = undefined;
    this.#wakeAll();
  }

  #failed(error: unknown, seen: number): void {
    // Another call has failed meanwhile, or even succeeded: this one is old news.
    if (seen !== this.#failures) return;
    this.#failures++;
    this.#trying = false;
    this.#error = error;
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(10, this.#failures - 1));
    this.pause(Math.round(pause * (0.5 + this.#random() / 2)));
    if (this.#failures === 1) this.#log.warn({ err: error }, `cannot use ${this.#what}; chunks are held, no item spends an attempt`);
    this.#wakeAll();
  }

  #wakeAll(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }
}
