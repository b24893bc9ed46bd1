/**
 * `AbortController` and `AbortSignal` for the code that runs in a simulated world: what services use of the standard, in its order,
 * without events, weak references and traces of stacks. The bundle of `cli.ts` holds them in place of the global ones, and
 * `signals.test.ts` gives both the same calls.
 *
 *   fresh ──abort(reason)──▶ aborted: tells its listeners, then those of the signals that were combined from it
 */
type Listener = (event: { readonly type: 'abort' }) => void;

const EVENT = { type: 'abort' } as const;
const NO_REASON = new DOMException('This operation was aborted', 'AbortError');

/** Counts all aborts: of several sources, the one that was aborted first gives the reason. */
let aborts = 0;

export class LightSignal {
  /** Which abort of all it was; 0: none yet. */
  #order = 0;
  #reason: unknown;
  readonly #listeners = new Set<Listener>();
  /** What a combined signal depends on. */
  readonly #sources: readonly LightSignal[];
  /** Combined signals that somebody listens to. Only those: a signal that lives long must not hold all that were ever made from it. */
  readonly #followers = new Set<LightSignal>();

  constructor(sources: readonly LightSignal[] = []) {
    this.#sources = sources;
  }

  /** Node asks for it; here nobody counts. */
  setMaxListeners(): void {}

  static any(signals: readonly LightSignal[]): LightSignal {
    if (signals.every((signal) => signal.#sources.length === 0)) return new LightSignal(signals);
    return new LightSignal(signals.flatMap((signal) => (signal.#sources.length > 0 ? signal.#sources : [signal])));
  }

  get aborted(): boolean {
    this.#ask();
    return this.#order > 0;
  }

  get reason(): unknown {
    this.#ask();
    return this.#reason;
  }

  throwIfAborted(): void {
    if (this.aborted) throw this.#reason;
  }

  /** All listeners are told once: there is only one abort. */
  addEventListener(_type: 'abort', listener: Listener): void {
    if (this.aborted) return;
    this.#listeners.add(listener);
    for (const source of this.#sources) source.#followers.add(this);
  }

  removeEventListener(_type: 'abort', listener: Listener): void {
    this.#listeners.delete(listener);
    if (this.#listeners.size === 0) for (const source of this.#sources) source.#followers.delete(this);
  }

  abort(reason: unknown): void {
    if (this.#order > 0) return;
    this.#order = ++aborts;
    this.#reason = reason;
    this.#tell();
    for (const follower of this.#followers) follower.#tell();
    this.#followers.clear();
  }

  #tell(): void {
    this.#ask();
    // A listener that an earlier one removes is not told: a set that is walked leaves it out.
    for (const listener of this.#listeners) {
      this.#listeners.delete(listener);
      listener(EVENT);
    }
  }

  #ask(): void {
    if (this.#order > 0) return;
    let first: LightSignal | undefined;
    for (const source of this.#sources) if (source.#order > 0 && (!first || source.#order < first.#order)) first = source;
    if (!first) return;
    this.#order = first.#order;
    this.#reason = first.#reason;
  }
}

export class LightController {
  readonly signal = new LightSignal();

  abort(reason: unknown = NO_REASON): void {
    this.signal.abort(reason);
  }
}

export { LightController as AbortController, LightSignal as AbortSignal };
