import type { Envelope, Verdict } from '@millrace/core';

/**
 * What services know of brokers. Delivery is at least once and in no promised order: duplicates, redeliveries and late
 * messages are normal, and derived ids make them harmless.
 */
export interface Publisher {
  /**
   * Resolves once the broker has taken responsibility for every message; not: that anybody received them.
   * The bodies may be overwritten then; not when this has rejected, as some may be on their way.
   * Waits while the broker is away or blocked, with a bounded number of unconfirmed messages in memory.
   * Rejects with MR3013 when a message has nowhere to go (its queue or stream is missing), when it is refused, or when
   * `signal` aborts: then any part of the messages may have been published.
   */
  publish(messages: readonly Envelope[], options?: PublishOptions): Promise<void>;
}

export interface PublishOptions {
  /** A subject that already holds a message refuses further ones; that counts as published. Streams only. */
  readonly once?: boolean;
  /**
   * Messages of one subject may travel as one. They are still delivered one by one, count as one for `prefetch`, and come back
   * together when one of them does. Streams only.
   */
  readonly together?: boolean;
  readonly signal?: AbortSignal;
}

export interface Delivery extends Envelope {
  /** 1 at first. A hint: brokers may count too low after a crash, and classic queues of RabbitMQ count to 2. */
  readonly deliveries: number;
}

/** Says one verdict per delivery, in order. A handler that throws gives every delivery back, after a pause. */
export type Handler = (deliveries: readonly Delivery[]) => Promise<readonly Verdict[]>;

export interface SubscribeOptions {
  /** Readers with one durable name share the messages between them; each durable name sees all. Streams only. */
  readonly durable: string;
  /** Deliveries that may be unsettled at once. Default 64. */
  readonly prefetch?: number;
  /** Deliveries handed over in one call, at most. Default 1. */
  readonly batch?: number;
  /**
   * After a call at least this long passes before the next, unless a batch is full or `enough`: where deliveries come in numbers, calls stay few.
   * What comes later is handed over at once.
   * Milliseconds; without it no call waits for another.
   */
  readonly linger?: number;
  /** Whether what waits for the end of `linger` is to go now. Without it only a full batch goes. */
  readonly enough?: (waiting: readonly Delivery[]) => boolean;
}

export interface Subscriber {
  /**
   * Delivers what `source` holds and will hold: a queue, or a subject filter of a stream. Waits for a source that
   * does not exist yet, reconnects for ever, and calls the handler concurrently up to `prefetch`.
   */
  subscribe(source: string, options: SubscribeOptions, handler: Handler): Promise<Subscription>;
}

export interface Subscription {
  /** Takes nothing new, waits for running handlers and settles their deliveries; what was not started goes back. */
  drain(): Promise<void>;
}

/** Work queues. The planner declares them; nobody else needs the right to. */
export interface Queues {
  /**
   * Declares the queue when it is missing. Calls `lost` first when what it was given before may be gone, and does so again next
   * time unless that succeeds.
   */
  ensure(queue: string, lost: () => Promise<unknown>): Promise<void>;
  /** Messages ready for delivery (not those being worked on), and consumers. Undefined when there is something to `ensure`. */
  inspect(queue: string): Promise<{ readonly ready: number; readonly consumers: number } | undefined>;
}

/** A small replicated map, for job manifests. Last write wins. */
export interface Bucket {
  put(key: string, value: string): Promise<void>;
  delete(key: string): Promise<void>;
  entries(): Promise<ReadonlyMap<string, string>>;
}

/** A connection to one broker. Reconnects by itself for ever once it has been made. */
export interface Connection {
  /** Which broker it is, as telemetry names it. */
  readonly system: 'rabbitmq' | 'nats' | 'memory';
  /** False while the broker is away; for /readyz. */
  connected(): boolean;
  close(): Promise<void>;
}

/** RabbitMQ: chunks. */
export interface WorkBroker extends Connection, Publisher, Subscriber, Queues {}

/** NATS JetStream: ticks, triggers, facts and the bucket of job manifests. */
export interface EventBroker extends Connection, Publisher, Subscriber {
  bucket(name: string): Bucket;
}
