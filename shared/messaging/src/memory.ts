import { setTimeout as delay } from 'node:timers/promises';
import { type Envelope, MillraceError, PARKED_QUEUE, type Time } from '@millrace/core';
import { MemoryQueue } from './memory-queue.ts';
import { owned } from './owned.ts';
import { matcherOf, parkedSubject, REASON_HEADER, streamOf } from './parking.ts';
import type { Bucket, Delivery, EventBroker, Handler, PublishOptions, SubscribeOptions, Subscription, WorkBroker } from './ports.ts';

/** What a durable name that comes later can still see of each stream. */
const KEPT_MESSAGES = 10_000;
const KEPT_BYTES = 32 * 1024 * 1024;
/** Subjects remembered for `once`. */
const KEPT_SUBJECTS = 100_000;

const realTime: Time = {
  now: () => Date.now(),
  sleep: (duration, signal) =>
    delay(duration, undefined, {
      ref: false,
      ...(signal ? { signal } : {}),
    }).catch(() => undefined),
};

/**
 * Both brokers inside this process, for the embedded mode, the simulator and tests. What they hold is lost with the
 * process; the ledger replaces it.
 */
export function openMemoryBrokers(time: Time = realTime): {
  work: WorkBroker;
  events: EventBroker;
} {
  return { work: new MemoryWork(time), events: new MemoryEvents(time) };
}

class MemoryWork implements WorkBroker {
  readonly system = 'memory';
  readonly #time: Time;
  readonly #queues = new Map<string, MemoryQueue>();
  /** Subscriptions that came before their queue. */
  readonly #early = new Map<string, Set<(queue: MemoryQueue) => void>>();
  #open = true;

  constructor(time: Time) {
    this.#time = time;
    this.#declare(PARKED_QUEUE);
  }

  connected(): boolean {
    return this.#open;
  }

  async close(): Promise<void> {
    this.#open = false;
  }

  async ensure(queue: string, lost: () => Promise<unknown>): Promise<void> {
    if (this.#queues.has(queue)) return;
    await lost();
    if (!this.#queues.has(queue)) this.#declare(queue);
  }

  async inspect(queue: string): Promise<{ ready: number; consumers: number } | undefined> {
    const found = this.#queues.get(queue);
    return found && { ready: found.ready, consumers: found.consumers };
  }

  async publish(messages: readonly Envelope[], options: PublishOptions = {}): Promise<void> {
    refuseWhenClosed(this.#open, options.signal);
    for (const message of messages) {
      const queue = this.#queues.get(message.subject);
      if (queue === undefined) throw new MillraceError('MR3013', `there is no queue "${message.subject}" (message ${message.id})`);
      queue.push(owned(message));
    }
  }

  async subscribe(source: string, options: SubscribeOptions, handler: Handler): Promise<Subscription> {
    const queue = this.#queues.get(source);
    if (queue !== undefined) return queue.consume(handler, options);
    let subscription: Subscription | undefined;
    const waiting = this.#early.get(source) ?? new Set();
    const begin = (created: MemoryQueue) => {
      subscription = created.consume(handler, options);
    };
    this.#early.set(source, waiting.add(begin));
    return {
      drain: async () => {
        waiting.delete(begin);
        await subscription?.drain();
      },
    };
  }

  #declare(name: string): void {
    const queue = new MemoryQueue(this.#time, (delivery, reason) =>
      this.#queues.get(PARKED_QUEUE)?.push(parked(delivery, reason, PARKED_QUEUE)),
    );
    this.#queues.set(name, queue);
    for (const begin of this.#early.get(name) ?? []) begin(queue);
    this.#early.delete(name);
  }
}

/** A stream keeps its latest messages; each durable reader has a queue of its own over it. */
interface MemoryStream {
  readonly log: Envelope[];
  bytes: number;
  readonly readers: Map<
    string,
    {
      readonly matches: (subject: string) => boolean;
      readonly queue: MemoryQueue;
    }
  >;
}

class MemoryEvents implements EventBroker {
  readonly system = 'memory';
  readonly #time: Time;
  readonly #streams = new Map<string, MemoryStream>();
  readonly #subjects = new Set<string>();
  readonly #buckets = new Map<string, Map<string, string>>();
  #open = true;

  constructor(time: Time) {
    this.#time = time;
  }

  connected(): boolean {
    return this.#open;
  }

  async close(): Promise<void> {
    this.#open = false;
  }

  async publish(messages: readonly Envelope[], options: PublishOptions = {}): Promise<void> {
    refuseWhenClosed(this.#open, options.signal);
    for (const message of messages) {
      const stream = this.#stream(message.subject);
      if (options.once === true && this.#subjects.has(message.subject)) continue;
      this.#remember(message.subject);
      this.#append(stream, owned(message));
    }
  }

  async subscribe(source: string, options: SubscribeOptions, handler: Handler): Promise<Subscription> {
    const stream = this.#stream(source);
    const name = `${options.durable} ${source}`;
    let reader = stream.readers.get(name);
    if (reader === undefined) {
      const queue = new MemoryQueue(this.#time, (delivery, reason) => this.#park(delivery, reason));
      reader = { matches: matcherOf(source), queue };
      stream.readers.set(name, reader);
      for (const message of stream.log) if (reader.matches(message.subject)) queue.push(message);
    }
    return reader.queue.consume(handler, options);
  }

  bucket(name: string): Bucket {
    const map = this.#buckets.get(name) ?? new Map<string, string>();
    this.#buckets.set(name, map);
    return {
      put: async (key, value) => void map.set(key, value),
      delete: async (key) => void map.delete(key),
      entries: async () => new Map(map),
    };
  }

  #park(delivery: Delivery, reason: string): void {
    const subject = parkedSubject(delivery.subject);
    this.#append(this.#stream(subject), parked(delivery, reason, subject));
  }

  #append(stream: MemoryStream, message: Envelope): void {
    for (const { matches, queue } of stream.readers.values()) if (matches(message.subject)) queue.push(message);
    stream.log.push(message);
    stream.bytes += message.body.byteLength;
    if (stream.log.length > 2 * KEPT_MESSAGES || stream.bytes > 2 * KEPT_BYTES) trim(stream);
  }

  #stream(subject: string): MemoryStream {
    const shape = streamOf(subject);
    if (shape === undefined) throw new MillraceError('MR3013', `no stream holds "${subject}"`);
    const stream = this.#streams.get(shape.name) ?? {
      log: [],
      bytes: 0,
      readers: new Map(),
    };
    this.#streams.set(shape.name, stream);
    return stream;
  }

  #remember(subject: string): void {
    this.#subjects.add(subject);
    if (this.#subjects.size > KEPT_SUBJECTS) this.#subjects.delete(this.#subjects.values().next().value as string);
  }
}

/** Readers hold what they have not worked off, so trimming costs them nothing. Halving keeps it cheap per message. */
function trim(stream: MemoryStream): void {
  let bytes = 0;
  let keep = 0;
  for (let at = stream.log.length - 1; at >= 0 && keep < KEPT_MESSAGES; at--, keep++) {
    bytes += stream.log[at]?.body.byteLength ?? 0;
    if (bytes > KEPT_BYTES) break;
  }
  stream.log.splice(0, stream.log.length - keep);
  stream.bytes = stream.log.reduce((sum, message) => sum + message.body.byteLength, 0);
}

function parked({ id, headers, body }: Delivery, reason: string, subject: string): Envelope {
  return {
    id,
    subject,
    headers: { ...headers, [REASON_HEADER]: reason },
    body,
  };
}

function refuseWhenClosed(open: boolean, signal: AbortSignal | undefined): void {
  if (!open) throw new MillraceError('MR3013', 'the broker connection is closed');
  if (signal?.aborted)
    throw new MillraceError('MR3013', 'publishing was aborted', {
      cause: signal.reason,
    });
}
