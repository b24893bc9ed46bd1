/**
 * Lets what comes at once go together, and what comes while a call is under way with the next one: the busier, the larger the groups;
 * alone nobody waits. A rejected call rejects for all that went with it.
 */
export class Gather<In, Out> {
  readonly #call: (inputs: readonly In[]) => Promise<readonly Out[]>;
  readonly #most: number;
  #waiting: { readonly input: In; readonly resolve: (output: Out) => void; readonly reject: (error: unknown) => void }[] = [];
  #calling = false;

  /** `call` answers in the order of its inputs, `most` at a time. */
  constructor(most: number, call: (inputs: readonly In[]) => Promise<readonly Out[]>) {
    this.#most = most;
    this.#call = call;
  }

  add(input: In): Promise<Out> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ input, resolve, reject });
      if (!this.#calling) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#calling = true;
    // What one event has set going arrives in the same microtask: chunks committed together tell their facts together.
    await undefined;
    while (this.#waiting.length > 0) {
      const group = this.#waiting.splice(0, this.#most);
      try {
        const outputs = await this.#call(group.map(({ input }) => input));
        for (const [i, { resolve }] of group.entries()) resolve(outputs[i] as Out);
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#calling = false;
  }
}
