import { type Milliseconds, messageOf, retry, type Verdict } from '@millrace/core';
import type { Log } from './log.ts';
import type { Delivery, Handler, SubscribeOptions } from './ports.ts';

/** A delivery and the adapter's way of telling its broker what became of it. */
export interface Arrival {
  readonly delivery: Delivery;
  settle(verdict: Verdict): void | Promise<void>;
}

/** Runs something after a delay; with 0 after the turn of the event loop, so that everything one packet brought travels together. */
export type Later = (delay: Milliseconds, run: () => void) => () => void;

const later: Later = (delay, run) => {
  if (delay === 0) {
    const immediate = setImmediate(run);
    return () => clearImmediate(immediate);
  }
  const timer = setTimeout(run, delay);
  return () => clearTimeout(timer);
};

const FIRST_PAUSE: Milliseconds = 250;
const LONGEST_PAUSE: Milliseconds = 30_000;

/**
 * Between a broker and a handler: hands over what has arrived, in groups of up to `batch`, at most `prefetch` at once.
 * With a batch above 1 only so many calls run at a time that full groups can form. Groups that are not full keep `linger` from the end of
 * the last call, unless they are `enough`.
 */
export class Intake {
  readonly #handler: Handler;
  readonly #batch: number;
  readonly #calls: number;
  readonly #linger: Milliseconds | undefined;
  readonly #enough: NonNullable<SubscribeOptions['enough']>;
  readonly #log: Log;
  readonly #later: Later;
  readonly #running = new Set<Promise<void>>();
  #waiting: Arrival[] = [];
  #scheduled = false;
  /** Cancels the rest between two groups. */
  #resting: (() => void) | undefined;
  #closed = false;

  constructor(
    handler: Handler,
    options: {
      readonly batch: number;
      readonly prefetch: number;
      readonly linger?: Milliseconds | undefined;
      readonly enough?: SubscribeOptions['enough'];
      readonly log: Log;
      /** Default: the timers of this process. */
      readonly later?: Later;
    },
  ) {
    this.#handler = handler;
    this.#batch = Math.max(1, Math.min(options.batch, options.prefetch));
    this.#calls = Math.max(1, Math.ceil(options.prefetch / this.#batch));
    this.#linger = options.linger;
    this.#enough = options.enough ?? (() => false);
    this.#log = options.log;
    this.#later = options.later ?? later;
  }

  /** False once closed: the adapter gives the arrival back. */
  offer(arrival: Arrival): boolean {
    if (this.#closed) return false;
    this.#waiting.push(arrival);
    this.#schedule();
    return true;
  }

  /** Forgets what has not been started: its channel is gone and the broker delivers it again. */
  discard(): void {
    this.#waiting = [];
  }

  /** Takes nothing any more. Returns what was never started, for the adapter to give back at once. */
  close(): readonly Arrival[] {
    this.#closed = true;
    this.#resting?.();
    const rest = this.#waiting;
    this.#waiting = [];
    return rest;
  }

  /** Waits for the running calls. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#later(0, () => {
      this.#scheduled = false;
      while (this.#waiting.length > 0 && this.#running.size < this.#calls) {
        if (this.#waiting.length < this.#batch && this.#gathers()) return;
        this.#start(this.#waiting.splice(0, this.#batch));
      }
    });
  }

  /** What waits is to wait for more. */
  #gathers(): boolean {
    if (this.#linger !== undefined && this.#running.size > 0) return true;
    return this.#resting !== undefined && !this.#enough(this.#waiting.map(({ delivery }) => delivery));
  }

  #rest(): void {
    this.#resting?.();
    this.#resting = undefined;
    if (this.#linger === undefined || this.#closed) return;
    this.#resting = this.#later(this.#linger, () => {
      this.#resting = undefined;
      if (this.#waiting.length > 0) this.#schedule();
    });
  }

  #start(group: readonly Arrival[]): void {
    const call = this.#call(group).finally(() => {
      this.#running.delete(call);
      this.#rest();
      if (this.#waiting.length > 0) this.#schedule();
    });
    this.#running.add(call);
  }

  async #call(group: readonly Arrival[]): Promise<void> {
    let verdicts: readonly (Verdict | undefined)[];
    try {
      verdicts = await this.#handler(group.map((arrival) => arrival.delivery));
    } catch (error) {
      this.#log.warn(
        {
          err: error,
          ids: group.slice(0, 5).map((arrival) => arrival.delivery.id),
        },
        'a handler threw; its deliveries go back',
      );
      verdicts = group.map(({ delivery }) => retry(pauseAfter(delivery.deliveries), messageOf(error)));
    }
    await Promise.all(
      group.map(async (arrival, index) => {
        try {
          // A missing verdict is a bug of the handler: never treat it as success.
          await arrival.settle(verdicts[index] ?? retry(pauseAfter(arrival.delivery.deliveries), 'the handler gave no verdict'));
        } catch (error) {
          this.#log.warn({ err: error, id: arrival.delivery.id }, 'a delivery could not be settled; the broker will deliver it again');
        }
      }),
    );
  }
}

function pauseAfter(deliveries: number): Milliseconds {
  return Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(10, Math.max(0, deliveries - 1)));
}
