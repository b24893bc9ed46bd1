import type { Envelope, Time, Verdict } from '@millrace/core';
import { Intake } from './intake.ts';
import { silent } from './log.ts';
import type { Delivery, Handler, SubscribeOptions, Subscription } from './ports.ts';

interface Consumer {
  readonly intake: Intake;
  readonly prefetch: number;
  unsettled: number;
}

/** Messages shared out between consumers, with a bound per consumer and a count of deliveries per message. */
export class MemoryQueue {
  readonly #time: Time;
  readonly #park: (delivery: Delivery, reason: string) => void;
  readonly #consumers: Consumer[] = [];
  #ready: Delivery[] = [];
  #head = 0;
  #turn = 0;

  constructor(time: Time, park: (delivery: Delivery, reason: string) => void) {
    this.#time = time;
    this.#park = park;
  }

  get ready(): number {
    return this.#ready.length - this.#head;
  }

  get consumers(): number {
    return this.#consumers.length;
  }

  push(envelope: Envelope): void {
    this.#requeue({ ...envelope, deliveries: 1 });
  }

  consume(handler: Handler, options: Pick<SubscribeOptions, 'batch' | 'prefetch' | 'linger' | 'enough'>): Subscription {
    const prefetch = options.prefetch ?? 64;
    const consumer: Consumer = {
      intake: new Intake(handler, {
        batch: options.batch ?? 1,
        prefetch,
        linger: options.linger,
        enough: options.enough,
        log: silent,
      }),
      prefetch,
      unsettled: 0,
    };
    this.#consumers.push(consumer);
    this.#pump();
    return { drain: () => this.#drain(consumer) };
  }

  async #drain(consumer: Consumer): Promise<void> {
    const index = this.#consumers.indexOf(consumer);
    if (index >= 0) this.#consumers.splice(index, 1);
    for (const { delivery } of consumer.intake.close()) this.#requeue({ ...delivery, deliveries: delivery.deliveries + 1 });
    await consumer.intake.idle();
  }

  #requeue(delivery: Delivery): void {
    this.#ready.push(delivery);
    this.#pump();
  }

  #pump(): void {
    while (this.ready > 0) {
      const consumer = this.#next();
      if (consumer === undefined) break;
      const delivery = this.#ready[this.#head++] as Delivery;
      consumer.unsettled++;
      consumer.intake.offer({
        delivery,
        settle: (verdict) => this.#settle(consumer, delivery, verdict),
      });
    }
    // The head moves instead of shifting the array, which would cost its whole length each time.
    if (this.#head > 1_024 || this.ready === 0) {
      this.#ready = this.#ready.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Consumers take turns, so that one with a large prefetch does not starve the rest. */
  #next(): Consumer | undefined {
    for (let tried = 0; tried < this.#consumers.length; tried++) {
      const consumer = this.#consumers[this.#turn++ % this.#consumers.length];
      if (consumer !== undefined && consumer.unsettled < consumer.prefetch) return consumer;
    }
    return undefined;
  }

  #settle(consumer: Consumer, delivery: Delivery, verdict: Verdict): void {
    if (verdict.kind === 'park') this.#park(delivery, verdict.reason);
    if (verdict.kind === 'retry') {
      const again = { ...delivery, deliveries: delivery.deliveries + 1 };
      void this.#time.sleep(verdict.after).then(() => this.#requeue(again));
    }
    consumer.unsettled--;
    this.#pump();
  }
}
