import type { SimProcess } from './process.ts';

/** Locks by name, held by transactions until they end, however they end. Whoever waits is served in the order of asking. */
export class Locks {
  readonly #held = new Map<string, { owner: object; readonly waiting: { owner: object; readonly enter: () => void }[] }>();

  /** Resolves once `owner` holds the lock; at once when it does already. */
  take(name: string, owner: object): Promise<void> | undefined {
    const lock = this.#held.get(name);
    if (!lock) {
      this.#held.set(name, { owner, waiting: [] });
      return undefined;
    }
    if (lock.owner === owner) return undefined;
    return new Promise((enter) => lock.waiting.push({ owner, enter }));
  }

  isHeld(name: string): boolean {
    return this.#held.has(name);
  }

  /** Lets go of everything that `owner` holds or waits for. */
  release(owner: object): void {
    for (const [name, lock] of this.#held) {
      const at = lock.waiting.findIndex((one) => one.owner === owner);
      if (at >= 0) lock.waiting.splice(at, 1);
      if (lock.owner !== owner) continue;
      const next = lock.waiting.shift();
      if (next) {
        lock.owner = next.owner;
        next.enter();
      } else this.#held.delete(name);
    }
  }

  /** The transactions of a process end with it: the server rolls them back. */
  releaseWith(process: SimProcess, owner: object): void {
    process.whenGone.push((dead) => {
      if (dead) this.release(owner);
    });
  }
}
