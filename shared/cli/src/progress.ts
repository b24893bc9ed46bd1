import type { RunJson } from './console-api.ts';
import { progressOf } from './run-report.ts';

/** On a terminal one line that is written over; elsewhere a line every `everyMs`. On stderr, so that stdout stays data. */
export class Progress {
  readonly #everyMs: number;
  readonly #tty = process.stderr.isTTY === true;
  #said = 0;
  #drawn = false;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
  }

  show(runs: readonly RunJson[]): void {
    if (runs.length === 0) return this.clear();
    if (this.#tty) {
      const text = runs.length === 1 ? progressOf(runs[0] as RunJson) : `${progressOf(runs[0] as RunJson)} · ${runs.length - 1} more`;
      process.stderr.write(`\r\u001b[2K${text.slice(0, (process.stderr.columns ?? 80) - 1)}`);
      this.#drawn = true;
    } else if (Date.now() - this.#said >= this.#everyMs) {
      this.#said = Date.now();
      for (const run of runs) process.stderr.write(`${progressOf(run)}\n`);
    }
  }

  /** Before anything else is printed. */
  clear(): void {
    if (this.#drawn) process.stderr.write('\r\u001b[2K');
    this.#drawn = false;
  }
}
