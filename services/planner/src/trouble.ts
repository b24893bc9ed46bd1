import { codeOf, type Milliseconds, messageOf } from '@millrace/core';
import type { Logger } from '@millrace/runtime';

const FIRST_PAUSE: Milliseconds = 500;
const LONGEST_PAUSE: Milliseconds = 5_000;

/**
 * A loop that fails again and again, as while a server is away: it tries more and more slowly, and says so once for each kind of error,
 * and once when it works again.
 */
export class Trouble {
  readonly #what: string;
  readonly #random: () => number;
  readonly #log: Logger;
  #failures = 0;
  #said = new Set<string>();

  /** `what` begins "… failed". */
  constructor(what: string, random: () => number, log: Logger) {
    this.#what = what;
    this.#random = random;
    this.#log = log;
  }

  /** How long to wait before the next try: half a second at first, at most five, with jitter. */
  met(error: unknown): Milliseconds {
    const kind = codeOf(error) ?? messageOf(error);
    if (!this.#said.has(kind)) this.#log.warn({ err: messageOf(error) }, `${this.#what} failed; trying again`);
    this.#said.add(kind);
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(10, this.#failures++));
    return Math.round(longest * (0.5 + this.#random() / 2));
  }

  over(): void {
    if (this.#failures === 0) return;
    this.#log.info({ failures: this.#failures }, `${this.#what} works again`);
    this.#failures = 0;
    this.#said = new Set();
  }
}
