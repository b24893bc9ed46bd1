/**
 * How many items of one job may be under way in this process, over all its chunks. Promises are waited for by their
 * chunks, which are told when a slot falls free; no object is made per item.
 */
export class Slots {
  readonly #limit: number;
  #taken = 0;
  readonly #waiting = new Set<() => void>();
  #turn: Promise<void> = Promise.resolve();

  constructor(limit: number) {
    this.#limit = Math.max(1, Math.floor(limit));
  }

  /** Takes a slot; or remembers `wake`, which is called once when slots fall free, and answers false. */
  take(wake: () => void): boolean {
    if (this.#taken >= this.#limit) {
      this.#waiting.add(wake);
      return false;
    }
    this.#taken++;
    return true;
  }

  /** Takes many at once, at most the limit. Callers take turns: two that hold a part each would wait for ever. */
  takeAll(count: number): Promise<void> {
    const turn = this.#turn.then(
      () =>
        new Promise<void>((resolve) => {
          let taken = 0;
          const pump = () => {
            for (; taken < count; taken++) if (!this.take(pump)) return;
            resolve();
          };
          pump();
        }),
    );
    this.#turn = turn;
    return turn;
  }

  give(): void {
    this.#taken--;
    for (const wake of this.#waiting) {
      if (this.#taken >= this.#limit) return;
      this.#waiting.delete(wake);
      wake();
    }
  }
}
