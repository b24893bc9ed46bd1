import type { Channel, ConsumeMessage } from 'amqplib';

/**
 * Acknowledges together what is settled together: one frame for all up to the first delivery that is still open, one each for those
 * beyond it. Every delivery of the channel must be told of, in the order in which it came.
 */
export class RabbitAcks {
  readonly #channel: Pick<Channel, 'ack' | 'nack'>;
  /** Neither acknowledged nor given back, in the order of delivery, with whether it is about to be acknowledged. */
  readonly #open = new Map<ConsumeMessage, boolean>();
  #settled: ConsumeMessage[] = [];

  constructor(channel: Pick<Channel, 'ack' | 'nack'>) {
    this.#channel = channel;
  }

  opened(message: ConsumeMessage): void {
    this.#open.set(message, false);
  }

  /** The frame goes with those of other deliveries that are settled in this turn of the event loop. */
  ack(message: ConsumeMessage): void {
    this.#open.set(message, true);
    if (this.#settled.push(message) === 1) setImmediate(() => this.flush());
  }

  giveBack(message: ConsumeMessage): void {
    this.#open.delete(message);
    quietly(() => this.#channel.nack(message, false, true));
  }

  /** To be called before the channel is closed. */
  flush(): void {
    let last: ConsumeMessage | undefined;
    for (const [message, settled] of this.#open) {
      if (!settled) break;
      last = message;
      this.#open.delete(message);
    }
    const upTo = last;
    if (upTo) quietly(() => this.#channel.ack(upTo, true));
    for (const message of this.#settled.splice(0)) if (this.#open.delete(message)) quietly(() => this.#channel.ack(message));
  }
}

/** On a channel that has closed meanwhile the broker has already taken everything back. */
function quietly(act: () => void): void {
  try {
    act();
  } catch {}
}
