import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError, messageOf, PARKED_QUEUE } from '@millrace/core';
import type { Channel } from 'amqplib';

/**
 * A quorum queue whose messages nobody drops: newer brokers would discard a message after 20 deliveries, here it is
 * parked after 10,000.
 */
const WORK_QUEUE = {
  durable: true,
  arguments: {
    'x-queue-type': 'quorum',
    'x-overflow': 'reject-publish',
    'x-delivery-limit': 10_000,
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': PARKED_QUEUE,
    'x-dead-letter-strategy': 'at-least-once',
  },
};
const LONGEST_WAIT = 10_000;
const PARKING = {
  durable: true,
  arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 },
};

/** Declares and inspects, one request at a time on a channel of its own: every refusal kills the channel. */
export class RabbitTopology {
  readonly #openChannel: () => Promise<Channel>;
  #channel: Channel | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(openChannel: () => Promise<Channel>) {
    this.#openChannel = openChannel;
  }

  async ensure(queue: string): Promise<'existed' | 'created'> {
    await this.#declare(PARKED_QUEUE);
    return queue === PARKED_QUEUE ? 'existed' : this.#declare(queue);
  }

  async inspect(queue: string): Promise<{ ready: number; consumers: number } | undefined> {
    const found = await this.#passive(queue);
    return found && { ready: found.messageCount, consumers: found.consumerCount };
  }

  async #declare(queue: string): Promise<'existed' | 'created'> {
    const found = await this.#passive(queue);
    try {
      await this.#ask((channel) => channel.assertQueue(queue, queue === PARKED_QUEUE ? PARKING : WORK_QUEUE));
    } catch (error) {
      if (codeOf(error) === 406) throw new MillraceError('MR3011', `queue "${queue}"`, { cause: error });
      throw new MillraceError('MR3003', `cannot declare queue "${queue}" (${messageOf(error)})`, { cause: error });
    }
    return found === undefined ? 'created' : 'existed';
  }

  async #passive(queue: string) {
    try {
      return await this.#ask((channel) => channel.checkQueue(queue));
    } catch (error) {
      if (codeOf(error) === 404) return undefined;
      throw new MillraceError('MR3003', `cannot look at queue "${queue}" (${messageOf(error)})`, { cause: error });
    }
  }

  #ask<T>(request: (channel: Channel) => Promise<T>): Promise<T> {
    const answer = this.#last.then(async () => {
      this.#channel ??= await this.#open();
      const channel = this.#channel;
      try {
        return await request(channel);
      } catch (error) {
        this.#channel = undefined; // refused: the broker has closed it
        throw error;
      }
    });
    this.#last = answer.catch(() => {});
    return answer;
  }

  /** Waits a while for a connection that is just coming back, not for ever: callers look again anyway. */
  async #open(): Promise<Channel> {
    const opening = this.#openChannel();
    const late = new AbortController();
    const channel = await Promise.race([opening, delay(LONGEST_WAIT, undefined, { signal: late.signal }).catch(() => undefined)]);
    late.abort();
    if (channel === undefined) {
      opening.then((unused) => unused.close()).catch(() => {});
      throw new Error('RabbitMQ is away');
    }
    channel.on('error', () => {});
    channel.on('close', () => {
      if (this.#channel === channel) this.#channel = undefined;
    });
    return channel;
  }
}

function codeOf(error: unknown): number | undefined {
  return (error as { code?: number })?.code;
}
