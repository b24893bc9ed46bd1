import type { Instant, Milliseconds } from '@millrace/core';
import type { Random } from './random.ts';

/** Somebody in whose life an event takes place: it may be gone or asleep by then. */
export interface Owner {
  deliver(run: () => void): void;
}

export interface Timer {
  readonly at: Instant;
  readonly tie: number;
  /** Undefined: cancelled. */
  run: (() => void) | undefined;
  readonly owner: Owner | undefined;
}

/** Lines kept for the report of a seed that fails. */
const TAIL = 400;

/**
 * Node's own step between two callbacks: microtasks, ticks, rejections that nobody handled. Called directly, since coming
 * back from `process.nextTick` for each event takes longer than many an event.
 */
const runMicrotasks = (process as unknown as { readonly _tickCallback: () => void })._tickCallback;

/**
 * Virtual time. One event at a time; before the next one, everything that the last one woke has run as far as it can
 * without the world: the code under test only uses promises, so that is when no microtask is left.
 * Events of the same instant run in a seeded order.
 *
 * What happens is written into a log whose hash tells whether two runs were the same. A line is kept in pieces: nearly all of them
 * are hashed and never read.
 */
export class Scheduler {
  now: Instant;
  events = 0;
  readonly #random: Random;
  readonly #heap: Timer[] = [];
  #hash = 0x811c_9dc5;
  #hash2 = 0x1234_5678;
  readonly #tail: Line[] = [];
  #lines = 0;
  readonly #echo: boolean;

  constructor(start: Instant, random: Random, echo = false) {
    this.now = start;
    this.#random = random;
    this.#echo = echo;
  }

  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0') + (this.#hash2 >>> 0).toString(16).padStart(8, '0');
  }

  /** When the next event is due; infinity: never. */
  get nextAt(): Instant {
    return this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  get tail(): readonly string[] {
    return [...this.#tail.slice(this.#lines % TAIL), ...this.#tail.slice(0, this.#lines % TAIL)].map(textOf);
  }

  /** Up to three pieces, which are read with spaces between them. */
  log(who: string, what?: string, detail?: string): void {
    this.#hash ^= this.now | 0;
    this.#mix(who);
    if (what !== undefined) this.#mix(what);
    if (detail !== undefined) this.#mix(detail);
    const line: Line = { at: this.now, who, what, detail };
    this.#tail[this.#lines++ % TAIL] = line;
    if (this.#echo) console.log(textOf(line));
  }

  /** Runs `run` after `delay`, in the life of `owner` if there is one. */
  after(delay: Milliseconds, run: () => void, owner?: Owner): Timer {
    const timer: Timer = { at: this.now + Math.max(0, delay), tie: this.#random.next(), run, owner };
    this.#push(timer);
    return timer;
  }

  /** Runs events until `over` says so after one of them, or none is left. Nothing else of this process runs meanwhile. */
  run(over: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      // Among microtasks nobody could wait for others.
      setImmediate(() => {
        try {
          while (!over()) {
            const timer = this.#next();
            if (!timer?.run) break;
            this.now = Math.max(this.now, timer.at);
            this.events++;
            if (timer.owner) timer.owner.deliver(timer.run);
            else timer.run();
            runMicrotasks();
          }
          resolve();
        } catch (error) {
          reject(error as Error);
        }
      });
    });
  }

  /** The next event that nobody has cancelled. */
  #next(): Timer | undefined {
    let timer = this.#pop();
    while (timer && !timer.run) timer = this.#pop();
    return timer;
  }

  #mix(text: string): void {
    let a = this.#hash;
    for (let i = 0; i < text.length; i++) a = Math.imul(a ^ text.charCodeAt(i), 0x0100_0193);
    this.#hash = a;
    this.#hash2 = Math.imul(this.#hash2 ^ a, 0x5bd1_e995) ^ (this.#hash2 >>> 15);
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(timer);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(timer, heap[parent] as Timer)) break;
      heap[at] = heap[parent] as Timer;
      at = parent;
    }
    heap[at] = timer;
  }

  #pop(): Timer | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Timer, heap[child] as Timer)) child++;
      if (!before(heap[child] as Timer, last)) break;
      heap[at] = heap[child] as Timer;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

interface Line {
  readonly at: Instant;
  readonly who: string;
  readonly what: string | undefined;
  readonly detail: string | undefined;
}

function textOf({ at, who, what, detail }: Line): string {
  return [new Date(at).toISOString().slice(11, 23), who, what, detail].filter((piece) => piece !== undefined).join(' ');
}

function before(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.tie < b.tie);
}
