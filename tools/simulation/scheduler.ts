import type { Instant, Milliseconds } from '@millrace/core';
import type { Random } from './random.ts';

export interface Timer {
  readonly at: Instant;
  readonly tie: number;
  run: (() => void) | undefined;
}

/** Lines kept for the report of a seed that fails. */
const TAIL = 400;

/**
 * Virtual time. One event at a time; before the next one, everything that the last one woke has run as far as it can
 * without the world: the code under test only uses promises, so `nextTick` after the microtasks is that moment.
 * Events of the same instant run in a seeded order.
 *
 * What happens is written into a log whose hash tells whether two runs were the same.
 */
export class Scheduler {
  now: Instant;
  events = 0;
  readonly #random: Random;
  readonly #heap: Timer[] = [];
  #hash = 0x811c_9dc5;
  #hash2 = 0x1234_5678;
  readonly #tail: string[] = [];
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

  get tail(): readonly string[] {
    return [...this.#tail.slice(this.#lines % TAIL), ...this.#tail.slice(0, this.#lines % TAIL)];
  }

  log(line: string): void {
    let a = this.#hash ^ (this.now | 0);
    let b = this.#hash2;
    for (let i = 0; i < line.length; i++) {
      const c = line.charCodeAt(i);
      a = Math.imul(a ^ c, 0x0100_0193);
      b = Math.imul(b ^ c, 0x5bd1_e995) ^ (b >>> 15);
    }
    this.#hash = a;
    this.#hash2 = b;
    const text = `${new Date(this.now).toISOString().slice(11, 23)} ${line}`;
    this.#tail[this.#lines++ % TAIL] = text;
    if (this.#echo) console.log(text);
  }

  after(delay: Milliseconds, run: () => void): Timer {
    const timer: Timer = { at: this.now + Math.max(0, delay), tie: this.#random.next(), run };
    this.#push(timer);
    return timer;
  }

  /** Runs events until `over` says so after one of them, or none is left. */
  run(over: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (): void => {
        try {
          if (over()) return resolve();
          const timer = this.#pop();
          if (!timer) return resolve();
          if (timer.run) {
            this.now = Math.max(this.now, timer.at);
            this.events++;
            timer.run();
          }
        } catch (error) {
          return reject(error as Error);
        }
        queueMicrotask(next);
      };
      const next = () => process.nextTick(step);
      next();
    });
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

function before(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.tie < b.tie);
}
