interface Waiting<In, Out> {
  readonly input: In;
  readonly resolve: (output: Out) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Lets what comes at once go together, and what comes while a call is under way with the next one: the busier, the larger the groups;
 * alone nobody waits. Where several calls may be under way, only full groups go beside another. A rejected call rejects for all that
 * went with it.
 */
export class Gather<In, Out> {
  readonly #call: (inputs: readonly In[]) => Promise<readonly Out[]>;
  readonly #most: number;
  readonly #calls: number;
  #waiting: Waiting<In, Out>[] = [];
  #running = 0;
  #scheduled = false;

  /** `call` answers in the order of its inputs, `most` at a time; up to `calls` may be under way at once. */
  constructor(most: number, calls: number, call: (inputs: readonly In[]) => Promise<readonly Out[]>) {
    this.#call = call;
    this.#most = most;
    this.#calls = calls;
  }

  add(input: In): Promise<Out> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ input, resolve, reject });
      if (!this.#scheduled) void this.#schedule();
    });
  }

  /** What one event has set going arrives in the same microtask: chunks committed together tell their facts together. */
  async #schedule(): Promise<void> {
    this.#scheduled = true;
    await undefined;
    this.#scheduled = false;
    this.#start();
  }

  #start(): void {
    const least = this.#running === 0 ? 1 : this.#running < this.#calls ? this.#most : Number.POSITIVE_INFINITY;
    if (this.#waiting.length < least) return;
    void this.#work(this.#waiting.splice(0, this.#most));
    this.#start();
  }

  async #work(group: readonly Waiting<In, Out>[]): Promise<void> {
    this.#running++;
    try {
      const outputs = await this.#call(group.map(({ input }) => input));
      for (const [i, { resolve }] of group.entries()) resolve(outputs[i] as Out);
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
    this.#running--;
    this.#start();
  }
}
