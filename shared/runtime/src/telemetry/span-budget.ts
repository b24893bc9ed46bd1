/** Runs remembered; the one that was longest without a span is forgotten first. */
const RUNS = 256;

const FIRST_LAST_AFTER_MS = 1_000;

interface Kept {
  first: number;
  failing: number;
  slowest: number;
  last: number;
}

/**
 * Which of the many like spans of a run are kept, so that its trace stays readable whatever its size: the first ones, the failing ones up to a
 * bound, and each that took clearly longer than all before it (a run of n spans has some log n of those).
 */
export class SpanBudget {
  readonly #first: number;
  readonly #failing: number;
  readonly #runs = new Map<string, Kept>();

  constructor({ first, failing }: { readonly first: number; readonly failing: number }) {
    this.#first = first;
    this.#failing = failing;
  }

  isFirst(runId: string): boolean {
    return this.#of(runId).first++ < this.#first;
  }

  isFailing(runId: string): boolean {
    return this.#of(runId).failing++ < this.#failing;
  }

  isSlowest(runId: string, duration: number): boolean {
    const kept = this.#of(runId);
    if (duration <= kept.slowest * 1.2) return false;
    kept.slowest = duration;
    return true;
  }

  /**
   * How long after a span without a successor it counts as the last one of its run. Doubles whenever that proved wrong, or a run that works on
   * one chunk a minute would have a last one every minute.
   */
  lastAfter(runId: string): number {
    return FIRST_LAST_AFTER_MS * 2 ** Math.min(20, this.#of(runId).last);
  }

  keptAsLast(runId: string): void {
    this.#of(runId).last++;
  }

  #of(runId: string): Kept {
    const kept = this.#runs.get(runId) ?? { first: 0, failing: 0, slowest: 0, last: 0 };
    this.#runs.delete(runId);
    this.#runs.set(runId, kept);
    if (this.#runs.size > RUNS) this.#runs.delete(this.#runs.keys().next().value as string);
    return kept;
  }
}
