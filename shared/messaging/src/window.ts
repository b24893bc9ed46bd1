/**
 * Bounds how many messages may be on their way unconfirmed. Places are handed on in the order of asking.
 */
export class Window {
  readonly #waiting = new Set<(entered: boolean) => void>();
  #free: number;

  constructor(size: number) {
    this.#free = Math.max(1, size);
  }

  /** Waits for a place. False when `signal` aborted first: then there is no place to give back. */
  async enter(signal?: AbortSignal): Promise<boolean> {
    if (signal?.aborted) return false;
    if (this.#free > 0) {
      this.#free--;
      return true;
    }
    return new Promise<boolean>((resolve) => {
      const abort = () => settle(false);
      const settle = (entered: boolean) => {
        this.#waiting.delete(settle);
        signal?.removeEventListener('abort', abort);
        resolve(entered);
      };
      signal?.addEventListener('abort', abort);
      this.#waiting.add(settle);
    });
  }

  leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#free++;
    else next(true);
  }
}
