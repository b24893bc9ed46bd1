import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError, messageOf, PARKED_QUEUE } from '@millrace/core';
import type { Channel } from 'amqplib';

/** RabbitMQ's types of queues: `classic` ones live on one node and keep what is here in its memory, `quorum` ones on the disks of a majority. */
export type QueueType = 'classic' | 'quorum';

/** Nobody drops messages of a quorum queue: newer brokers would after 20 deliveries, here they are parked after 10,000. */
const WORK_QUEUE: Readonly<Record<QueueType, object>> = {
  classic: { 'x-queue-type': 'classic' },
  quorum: {
    'x-queue-type': 'quorum',
    'x-overflow': 'reject-publish',
    'x-delivery-limit': 10_000,
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': PARKED_QUEUE,
    'x-dead-letter-strategy': 'at-least-once',
  },
};
const PARKING = { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 };
const LONGEST_WAIT = 10_000;

/**
 * Declares and inspects, one thing after the other on a channel of its own: every refusal kills the channel.
 *
 * A classic queue outlives its broker, the messages in it do not. Beside each stands another with one such message, its mark:
 * while that is there, so is what the queue was given.
 */
export class RabbitTopology {
  readonly #openChannel: () => Promise<Channel>;
  readonly #type: QueueType;
  #channel: Channel | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(openChannel: () => Promise<Channel>, type: QueueType) {
    this.#openChannel = openChannel;
    this.#type = type;
  }

  ensure(queue: string, lost: () => Promise<unknown>): Promise<void> {
    return this.#alone(async () => {
      await this.#declare(PARKED_QUEUE, PARKING);
      if (queue === PARKED_QUEUE) return;
      const missing = (await this.#look(queue)) === undefined;
      const marked = this.#type === 'quorum' || (await this.#declare(markOf(queue), WORK_QUEUE.classic)) > 0;
      const channel = this.#channel;
      if (missing && marked) await lost();
      await this.#declare(queue, WORK_QUEUE[this.#type]);
      if (marked) return;
      await lost();
      // Over the channel that saw it missing or not at all: another broker by now may have lost what was sent since.
      try {
        channel?.sendToQueue(markOf(queue), Buffer.from('here'), { persistent: false });
      } catch (error) {
        throw unreachable(`cannot mark queue "${queue}"`, error);
      }
    });
  }

  inspect(queue: string): Promise<{ ready: number; consumers: number } | undefined> {
    return this.#alone(async () => {
      const found = await this.#look(queue);
      if (found === undefined) return undefined;
      if (this.#type === 'classic' && queue !== PARKED_QUEUE && !(await this.#look(markOf(queue)))?.messageCount) return undefined;
      return { ready: found.messageCount, consumers: found.consumerCount };
    });
  }

  /** How many messages it holds. */
  async #declare(queue: string, settings: object): Promise<number> {
    try {
      return (await this.#ask((channel) => channel.assertQueue(queue, { durable: true, arguments: settings }))).messageCount;
    } catch (error) {
      if (codeOf(error) === 406) throw new MillraceError('MR3011', `queue "${queue}"`, { cause: error });
      throw unreachable(`cannot declare queue "${queue}"`, error);
    }
  }

  async #look(queue: string) {
    try {
      return await this.#ask((channel) => channel.checkQueue(queue));
    } catch (error) {
      if (codeOf(error) === 404) return undefined;
      throw unreachable(`cannot look at queue "${queue}"`, error);
    }
  }

  #alone<T>(task: () => Promise<T>): Promise<T> {
    const answer = this.#last.then(task);
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #ask<T>(request: (channel: Channel) => Promise<T>): Promise<T> {
    this.#channel ??= await this.#open();
    const channel = this.#channel;
    try {
      return await request(channel);
    } catch (error) {
      this.#channel = undefined; // refused: the broker has closed it
      throw error;
    }
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

function markOf(queue: string): string {
  return `${queue}.mark`;
}

function unreachable(what: string, error: unknown): MillraceError {
  return new MillraceError('MR3003', `${what} (${messageOf(error)})`, { cause: error });
}

function codeOf(error: unknown): number | undefined {
  return (error as { code?: number })?.code;
}
