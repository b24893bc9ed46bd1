import { type Envelope, PARKED_QUEUE } from '@millrace/core';
import { type Log, silent } from './log.ts';
import type { Handler, PublishOptions, SubscribeOptions, Subscription, WorkBroker } from './ports.ts';
import { RabbitConsumer } from './rabbit-consumer.ts';
import { type Link, openLink } from './rabbit-link.ts';
import { RabbitPublisher } from './rabbit-publisher.ts';
import { type QueueType, RabbitTopology } from './rabbit-topology.ts';

export interface RabbitOptions {
  /** `amqp://user:password@host:5672/vhost` */
  readonly url: string;
  readonly log?: Log;
  /** Messages that may be on their way to the broker without its confirmation. Default 256. */
  readonly maxUnconfirmed?: number;
  /** Of work queues. Default `classic`. */
  readonly queueType?: QueueType;
}

/**
 * RabbitMQ 3.10 and later: queues addressed by name through the default exchange. Work is in the plan already and need not be on
 * the broker's disk as well; what is parked is nowhere else. Publishing and consuming have a connection each, because the broker
 * throttles whole connections of publishers.
 * Rejects with MR3003 or MR3004 when the first connection fails; afterwards it reconnects for ever.
 */
export async function connectRabbit({
  url,
  log = silent,
  maxUnconfirmed = 256,
  queueType = 'classic',
}: RabbitOptions): Promise<WorkBroker> {
  const publisher = new RabbitPublisher(maxUnconfirmed, ({ subject }) => queueType === 'quorum' || subject === PARKED_QUEUE);
  const sending = await openLink(url, 'publish', log, (model) => publisher.attach(model));
  try {
    const receiving = await openLink(url, 'consume', log, async () => {});
    return new Rabbit(publisher, sending, receiving, queueType, log);
  } catch (error) {
    await sending.close();
    throw error;
  }
}

class Rabbit implements WorkBroker {
  readonly system = 'rabbitmq';
  readonly #publisher: RabbitPublisher;
  readonly #sending: Link;
  readonly #receiving: Link;
  readonly #log: Log;
  readonly #topology: RabbitTopology;
  readonly #consumers = new Set<RabbitConsumer>();

  constructor(publisher: RabbitPublisher, sending: Link, receiving: Link, queueType: QueueType, log: Log) {
    this.#publisher = publisher;
    this.#sending = sending;
    this.#receiving = receiving;
    this.#log = log;
    this.#topology = new RabbitTopology(() => sending.model.createChannel(), queueType);
  }

  connected(): boolean {
    return this.#sending.up() && this.#receiving.up();
  }

  publish(messages: readonly Envelope[], options: PublishOptions = {}): Promise<void> {
    return this.#publisher.publish(messages, options);
  }

  ensure(queue: string, lost: () => Promise<unknown>): Promise<void> {
    return this.#topology.ensure(queue, lost);
  }

  inspect(queue: string): Promise<{ ready: number; consumers: number } | undefined> {
    return this.#topology.inspect(queue);
  }

  async subscribe(source: string, options: SubscribeOptions, handler: Handler): Promise<Subscription> {
    const consumer = new RabbitConsumer(source, options, handler, {
      openChannel: () => this.#receiving.model.createChannel(),
      publish: (envelope) => this.#publisher.publish([envelope]),
      log: this.#log,
    });
    this.#consumers.add(consumer);
    return {
      drain: async () => {
        await consumer.drain();
        this.#consumers.delete(consumer);
      },
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.drain()));
    this.#publisher.close();
    await Promise.all([this.#sending.close(), this.#receiving.close()]);
  }
}
