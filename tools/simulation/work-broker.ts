// Long because queues, consumers and connections are one state machine: what befalls one of them moves messages of the others.
import { type Envelope, type Milliseconds, MillraceError, PARKED_QUEUE, type Verdict } from '@millrace/core';
import type { Delivery, Handler, PublishOptions, SubscribeOptions, Subscription, WorkBroker } from '@millrace/messaging';
import { owned } from '../../shared/messaging/src/owned.ts';
import { REASON_HEADER } from '../../shared/messaging/src/parking.ts';
import type { Faults } from './faults.ts';
import type { Mutants } from './mutants.ts';
import type { SimProcess } from './process.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import { SimIntake } from './sim-intake.ts';

interface Message {
  readonly envelope: Envelope;
  deliveries: number;
}

interface Queue {
  readonly name: string;
  ready: Message[];
  readonly consumers: Set<Consumer>;
  /** Messages on their way to a consumer or back. */
  moving: number;
  /** Nothing that it was given since a planner made sure of it is lost. */
  marked: boolean;
}

interface Consumer {
  readonly connection: Connection;
  readonly intake: SimIntake;
  readonly unacked: Set<Message>;
  queue: Queue | undefined;
}

/** What a process holds of a broker. It breaks when the process dies or pauses for long, or when somebody cuts it. */
interface Connection {
  readonly process: SimProcess;
  readonly consumers: Set<{ lost(): void; readonly consumer: () => Consumer | undefined }>;
  /** Grows with every break: what was sent before counts for nothing. */
  epoch: number;
  up: boolean;
}

const RECONNECT: Milliseconds = 300;
const LOOK_AGAIN: Milliseconds = 500;
/** How long a silent peer is believed to live. */
const HEARTBEAT: Milliseconds = 8_000;

/** RabbitMQ as the adapters show it: queues, confirms, returns, prefetch, redelivery counts, cancels, alarms, loss. */
export class SimWorkBroker {
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #faults: Faults;
  readonly #mutants: Mutants;
  readonly #queues = new Map<string, Queue>();
  readonly #connections = new Set<Connection>();
  #whenUnblocked: (() => void)[] | undefined;
  /** Everything that was ever confirmed. */
  readonly published: Envelope[] = [];
  /** Chance that a message is stored twice, or that another than the first is delivered. */
  disorder = 0;

  constructor(scheduler: Scheduler, random: Random, faults: Faults, mutants: Mutants) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#faults = faults;
    this.#mutants = mutants;
    this.#declare(PARKED_QUEUE);
  }

  /** Messages in all queues that are not settled yet. */
  get unsettled(): number {
    let count = 0;
    for (const queue of this.#queues.values()) {
      if (queue.name === PARKED_QUEUE) continue;
      count += queue.ready.length + queue.moving;
      for (const consumer of queue.consumers) count += consumer.unacked.size;
    }
    return count;
  }

  get parked(): readonly Envelope[] {
    return this.#queues.get(PARKED_QUEUE)?.ready.map(({ envelope }) => envelope) ?? [];
  }

  has(queue: string): boolean {
    return this.#queues.has(queue);
  }

  /** Nothing of the queue is anywhere: it can vanish without losing anything. */
  isEmpty(queue: string): boolean {
    const found = this.#queues.get(queue);
    return found !== undefined && found.ready.length === 0 && found.moving === 0 && [...found.consumers].every((c) => c.unacked.size === 0);
  }

  /** Everything is lost: queues, messages, connections. */
  wipe(): void {
    this.#scheduler.log('WORK BROKER WIPED');
    for (const name of [...this.#queues.keys()]) if (name !== PARKED_QUEUE) this.deleteQueue(name);
    for (const connection of this.#connections) this.#break(connection);
  }

  /** Queues are still there, nothing is in them. */
  restart(): void {
    this.#scheduler.log('WORK BROKER RESTARTED');
    for (const queue of this.#queues.values()) {
      if (queue.name === PARKED_QUEUE) continue;
      queue.ready = [];
      queue.marked = false;
      for (const consumer of queue.consumers) consumer.unacked.clear();
    }
    for (const connection of this.#connections) this.#break(connection);
  }

  /** The broker cancels the consumers of a queue that is deleted under them. */
  deleteQueue(name: string): void {
    const queue = this.#queues.get(name);
    if (!queue) return;
    this.#scheduler.log(`queue ${name} deleted with ${queue.ready.length} messages`);
    this.#queues.delete(name);
    for (const consumer of queue.consumers) {
      consumer.unacked.clear();
      consumer.queue = undefined;
      for (const held of consumer.connection.consumers) if (held.consumer() === consumer) held.lost();
    }
  }

  /** By somebody who knows that nothing is lost. */
  declareQueue(name: string): void {
    if (!this.#queues.has(name)) this.#declare(name);
  }

  /** A message that somebody has held for long comes again; known as redelivered, or sent anew. */
  bringBack(message: Envelope, redelivered: boolean): void {
    const queue = this.#queues.get(message.subject);
    if (queue) this.#enqueue(queue, { envelope: message, deliveries: redelivered ? 1 : 0 });
  }

  /** One consumer is cancelled; what it holds stays with it until it acknowledges or its channel closes. */
  cancelSomebody(): void {
    const consumers = [...this.#queues.values()].flatMap((queue) => [...queue.consumers]);
    if (consumers.length === 0) return;
    const consumer = this.#random.pick(consumers);
    this.#scheduler.log(`${consumer.connection.process.name} consumer CANCELLED`);
    this.#takeBack(consumer);
    for (const held of consumer.connection.consumers) if (held.consumer() === consumer) held.lost();
  }

  /** A memory alarm: nothing is accepted until it is over. */
  block(): void {
    this.#scheduler.log('work broker BLOCKED');
    this.#whenUnblocked ??= [];
  }

  unblock(): void {
    this.#scheduler.log('work broker unblocked');
    const waiting = this.#whenUnblocked ?? [];
    this.#whenUnblocked = undefined;
    for (const go of waiting) go();
  }

  cutSomebody(): void {
    const up = [...this.#connections].filter((connection) => connection.up);
    if (up.length === 0) return;
    const connection = this.#random.pick(up);
    this.#scheduler.log(`${connection.process.name} work connection CUT`);
    this.#break(connection);
  }

  connect(process: SimProcess): WorkBroker {
    const connection: Connection = { process, consumers: new Set(), epoch: 0, up: true };
    this.#connections.add(connection);
    process.whenGone.push((dead) => {
      const gone = () => {
        if (dead) this.#connections.delete(connection);
        this.#break(connection);
      };
      // A paused process is given up once its heartbeats are missing.
      if (dead) gone();
      else
        this.#scheduler.after(HEARTBEAT, () => {
          if (process.paused) gone();
        });
    });
    const refused = () => new MillraceError('MR3003', 'simulated: no channel');
    return {
      system: 'rabbitmq',
      connected: () => connection.up,
      close: async () => {},
      publish: (messages, options) => this.#publish(connection, messages, options),
      subscribe: (source, options, handler) =>
        process.call(
          'subscribe',
          () => this.#subscribe(connection, source, options, handler),
          () => new MillraceError('MR3003', 'simulated'),
          source,
        ),
      ensure: async (name, lost) => {
        const epoch = connection.epoch;
        if (await process.call('work.look', () => this.#queues.get(name)?.marked, refused, name)) return;
        await lost();
        const declare = () => {
          // Whatever was sent since may be lost with the connection.
          if (connection.epoch !== epoch) throw refused();
          const queue = this.#queues.get(name);
          if (queue) queue.marked = true;
          else this.#declare(name);
        };
        await process.call('work.ensure', declare, refused, name);
      },
      inspect: (name) =>
        process.call(
          'work.inspect',
          () => {
            const queue = this.#queues.get(name);
            return queue?.marked ? { ready: queue.ready.length, consumers: queue.consumers.size } : undefined;
          },
          refused,
          name,
        ),
    };
  }

  /**
   * Confirmed once stored. What a lost confirm leaves unknown is sent again, as the adapter does: the queue may hold it
   * twice. A missing queue returns the message; messages beside it may be stored.
   */
  #publish(connection: Connection, messages: readonly Envelope[], { signal }: PublishOptions = {}): Promise<void> {
    const { process } = connection;
    return process.call(
      'publish chunk',
      () =>
        new Promise<void>((resolve, reject) => {
          const store = (again: boolean): void => {
            if (signal?.aborted) return reject(new MillraceError('MR3013', 'publishing was aborted', { cause: signal.reason }));
            if (this.#whenUnblocked) {
              this.#whenUnblocked.push(() => store(again));
              signal?.addEventListener('abort', () => reject(new MillraceError('MR3013', 'publishing was aborted')), { once: true });
              return;
            }
            let returned: string | undefined;
            for (const message of messages.map(owned)) {
              const queue = this.#queues.get(message.subject);
              if (queue === undefined) {
                returned ??= message.subject;
                continue;
              }
              this.published.push(message);
              const copies = this.disorder > 0 && this.#random.chance(this.disorder) ? 2 : 1;
              if (copies === 2) this.#faults.happened('work: message doubled');
              for (let i = 0; i < copies; i++) this.#enqueue(queue, { envelope: message, deliveries: 0 });
            }
            if (returned !== undefined && !this.#mutants.on('non-mandatory-publish')) {
              this.#scheduler.log(`${process.name} gets a message for ${returned} back`);
              this.#faults.happened('work: returned');
              return reject(new MillraceError('MR3013', `there is no queue "${returned}"`));
            }
            resolve();
          };
          store(false);
        }),
      () => new MillraceError('MR3013', 'simulated: refused'),
      messages.map((m) => m.id).join(' '),
    );
  }

  #subscribe(connection: Connection, source: string, options: SubscribeOptions, handler: Handler): Subscription {
    const { process } = connection;
    let draining = false;
    let consumer: Consumer | undefined;
    const held = {
      consumer: () => consumer,
      /** The channel is gone: what was not started is forgotten, what runs settles into nothing. */
      lost: () => {
        consumer?.intake.discard();
        consumer = undefined;
        look(LOOK_AGAIN);
      },
    };
    const look = (delay: Milliseconds) =>
      process.later(delay, () => {
        if (draining || consumer) return;
        const queue = connection.up ? this.#queues.get(source) : undefined;
        if (!queue) return look(LOOK_AGAIN);
        consumer = { connection, queue, unacked: new Set(), intake: new SimIntake(process, options, handler) };
        queue.consumers.add(consumer);
        this.#pump(queue);
      });
    connection.consumers.add(held);
    look(0);
    return {
      drain: async () => {
        draining = true;
        connection.consumers.delete(held);
        const open = consumer;
        if (!open) return;
        open.queue?.consumers.delete(open);
        await open.intake.drain();
        this.#takeBack(open);
      },
    };
  }

  #declare(name: string): void {
    this.#queues.set(name, { name, ready: [], consumers: new Set(), moving: 0, marked: true });
  }

  #enqueue(queue: Queue, message: Message, atHead = false): void {
    if (atHead) queue.ready.unshift(message);
    else queue.ready.push(message);
    this.#pump(queue);
  }

  #pump(queue: Queue): void {
    while (queue.ready.length > 0) {
      const free = [...queue.consumers].filter((consumer) => consumer.unacked.size < consumer.intake.prefetch);
      if (free.length === 0) return;
      const consumer = this.#random.pick(free);
      const at = this.disorder > 0 && this.#random.chance(this.disorder) ? this.#random.int(0, queue.ready.length - 1) : 0;
      if (at > 0) this.#faults.happened('work: reordered');
      const [message] = queue.ready.splice(at, 1) as [Message];
      message.deliveries++;
      consumer.unacked.add(message);
      const late = this.disorder > 0 && this.#random.chance(this.disorder) ? this.#random.int(100, 4_000) : 0;
      if (late > 0) this.#faults.happened('work: delayed');
      consumer.connection.process.later(late + this.#random.next() * 2, () => this.#arrive(consumer, message));
    }
  }

  #arrive(consumer: Consumer, message: Message): void {
    if (!consumer.unacked.has(message)) return;
    const { process } = consumer.connection;
    const delivery: Delivery = { ...message.envelope, deliveries: message.deliveries };
    this.#scheduler.log(`${process.name} receives ${delivery.id} (${delivery.deliveries})`);
    const settle = (verdict: Verdict) => this.#settle(consumer, message, verdict);
    if (!consumer.intake.offer({ delivery, settle })) void this.#nack(consumer, message);
  }

  async #settle(consumer: Consumer, message: Message, verdict: Verdict): Promise<void> {
    const { process } = consumer.connection;
    if (verdict.kind === 'retry') {
      // Without waiting: the delivery keeps its place in the prefetch meanwhile.
      process.later(verdict.after, () => this.#nack(consumer, message));
      return;
    }
    await process.call(
      'ack',
      () => {
        const { queue } = consumer;
        // On a channel that has closed meanwhile the broker has taken everything back already.
        if (!queue || !consumer.unacked.delete(message)) return;
        if (verdict.kind === 'park') {
          this.#scheduler.log(`${message.envelope.id} PARKED: ${verdict.reason}`);
          const headers = { ...message.envelope.headers, [REASON_HEADER]: verdict.reason };
          const parked = this.#queues.get(PARKED_QUEUE);
          if (parked) this.#enqueue(parked, { envelope: { ...message.envelope, headers }, deliveries: 0 });
        }
        this.#pump(queue);
      },
      undefined,
      message.envelope.id,
    );
  }

  #nack(consumer: Consumer, message: Message): void {
    const { queue } = consumer;
    if (!queue || !consumer.unacked.delete(message)) return;
    this.#enqueue(queue, message, true);
  }

  #break(connection: Connection): void {
    connection.epoch++;
    connection.up = false;
    for (const { consumer, lost } of [...connection.consumers]) {
      const open = consumer();
      if (open) this.#takeBack(open);
      lost();
    }
    if (!connection.process.alive) return;
    connection.process.later(RECONNECT, () => {
      connection.up = true;
    });
  }

  /** The channel closed: everything unacknowledged is ready again. */
  #takeBack(consumer: Consumer): void {
    const { queue } = consumer;
    consumer.queue = undefined;
    if (!queue) return;
    queue.consumers.delete(consumer);
    const back = [...consumer.unacked];
    consumer.unacked.clear();
    queue.ready.unshift(...back);
    this.#pump(queue);
  }
}
