import { type Envelope, type Instant, KIND_HEADER, type Milliseconds, MillraceError, type Verdict } from '@millrace/core';
import type { Delivery, EventBroker, Handler, PublishOptions, SubscribeOptions, Subscription } from '@millrace/messaging';
import { owned } from '../../shared/messaging/src/owned.ts';
import { matcherOf, parkedSubject, REASON_HEADER, streamOf } from '../../shared/messaging/src/parking.ts';
import type { Faults } from './faults.ts';
import type { SimProcess } from './process.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import { bucketOf } from './sim-bucket.ts';
import { SimIntake } from './sim-intake.ts';

interface Message {
  readonly envelope: Envelope;
}

interface Stream {
  readonly log: Envelope[];
  readonly subjects: Set<string>;
  /** When each id came first. */
  readonly ids: Map<string, Instant>;
  readonly readers: Map<string, Reader>;
}

/** A durable consumer: it lives in the broker, whoever pulls from it. */
interface Reader {
  readonly matches: (subject: string) => boolean;
  ready: { readonly message: Message; deliveries: number }[];
  readonly pending: Map<Message, { readonly puller: Puller; readonly deliveries: number }>;
  readonly pullers: Set<Puller>;
  /** Given back with a pause. */
  waiting: number;
}

interface Puller {
  readonly process: SimProcess;
  readonly intake: SimIntake;
  reader: Reader | undefined;
  unsettled: number;
  draining: boolean;
}

const TRY_AGAIN: Milliseconds = 500;
/** Unacknowledged messages of somebody who is gone come back after this. */
const ACK_WAIT: Milliseconds = 6_000;
/** A message whose id came within this time is confirmed, and dropped. */
const REMEMBERED: Milliseconds = 120_000;

/** JetStream as the adapters show it: streams that keep messages, durable readers, ack waits, loss, and a bucket. */
export class SimEventBroker {
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #faults: Faults;
  #streams = new Map<string, Stream>();
  #buckets = new Map<string, Map<string, string>>();
  readonly #pullers = new Map<Puller, { readonly source: string; readonly durable: string }>();
  #whenBack: (() => void)[] | undefined;
  disorder = 0;

  constructor(scheduler: Scheduler, random: Random, faults: Faults) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#faults = faults;
  }

  get unsettled(): number {
    let count = 0;
    for (const stream of this.#streams.values())
      for (const reader of stream.readers.values()) count += reader.ready.length + reader.pending.size + reader.waiting;
    return count;
  }

  get parked(): readonly Envelope[] {
    return this.#streams.get('MILLRACE_PARKED')?.log ?? [];
  }

  /** Every message that streams hold. */
  kept(kind: string): readonly Envelope[] {
    return [...this.#streams.values()].flatMap((stream) => stream.log.filter((message) => message.headers[KIND_HEADER] === kind));
  }

  /** Its store is deleted: streams, readers and buckets are gone. */
  wipe(): void {
    this.#scheduler.log('EVENT BROKER WIPED');
    const parked = this.#streams.get('MILLRACE_PARKED');
    this.#streams = new Map(parked ? [['MILLRACE_PARKED', parked]] : []);
    this.#buckets = new Map();
    for (const puller of this.#pullers.keys()) {
      puller.intake.discard();
      puller.reader = undefined;
      puller.unsettled = 0;
      this.#look(puller, TRY_AGAIN);
    }
  }

  /** Away: publishers wait, nobody receives. */
  goAway(): void {
    this.#scheduler.log('event broker AWAY');
    this.#whenBack ??= [];
  }

  comeBack(): void {
    this.#scheduler.log('event broker back');
    const waiting = this.#whenBack ?? [];
    this.#whenBack = undefined;
    for (const go of waiting) go();
    for (const stream of this.#streams.values()) for (const reader of stream.readers.values()) this.#pump(reader);
  }

  connect(process: SimProcess): EventBroker {
    process.whenGone.push((dead) => {
      this.#scheduler.after(ACK_WAIT, () => {
        if (process.alive && !process.paused) return;
        for (const puller of this.#pullers.keys()) if (puller.process === process) this.#takeBack(puller);
      });
      for (const puller of this.#pullers.keys()) if (dead && puller.process === process) puller.reader?.pullers.delete(puller);
    });
    return {
      system: 'nats',
      connected: () => this.#whenBack === undefined,
      close: async () => {},
      publish: (messages, options) => this.#publish(process, messages, options),
      subscribe: (source, options, handler) =>
        process.call(
          'subscribe',
          () => this.#subscribe(process, source, options, handler),
          () => new MillraceError('MR3005', 'simulated'),
          source,
        ),
      bucket: (name) => bucketOf(process, () => this.#entriesOf(name)),
    };
  }

  /** For whoever is no service: a person's command, which is sent until it is confirmed. */
  append(message: Envelope, once = false): void {
    const shape = streamOf(message.subject);
    if (!shape) throw new MillraceError('MR3013', `no stream holds "${message.subject}"`);
    const stream = this.#stream(shape.name);
    if (once && stream.subjects.has(message.subject)) return;
    const { now } = this.#scheduler;
    if (now - (stream.ids.get(message.id) ?? Number.NEGATIVE_INFINITY) < REMEMBERED) return;
    stream.ids.set(message.id, now);
    stream.subjects.add(message.subject);
    stream.log.push(message);
    for (const reader of stream.readers.values()) {
      if (!reader.matches(message.subject)) continue;
      const copies = this.disorder > 0 && this.#random.chance(this.disorder) ? 2 : 1;
      if (copies === 2) this.#faults.happened('events: message doubled');
      for (let i = 0; i < copies; i++) reader.ready.push({ message: { envelope: message }, deliveries: 0 });
      this.#pump(reader);
    }
  }

  #publish(process: SimProcess, messages: readonly Envelope[], { once = false, signal }: PublishOptions = {}): Promise<void> {
    const kind = messages.find((m) => m.headers[KIND_HEADER] !== 'run.opened')?.headers[KIND_HEADER] ?? 'run.opened';
    return process.call(
      `publish ${kind === 'run.plan_failed' ? 'run.planned' : kind}`,
      () =>
        new Promise<void>((resolve, reject) => {
          const aborted = () => reject(new MillraceError('MR3013', 'publishing was aborted', { cause: signal?.reason }));
          const store = () => {
            if (signal?.aborted) return aborted();
            if (this.#whenBack) {
              this.#whenBack.push(store);
              signal?.addEventListener('abort', aborted, { once: true });
              return;
            }
            for (const message of messages) this.append(owned(message), once);
            resolve();
          };
          store();
        }),
      () => new MillraceError('MR3013', 'simulated: refused'),
      messages.map((m) => m.id).join(' '),
    );
  }

  #subscribe(process: SimProcess, source: string, options: SubscribeOptions, handler: Handler): Subscription {
    const intake = new SimIntake(process, options, handler);
    const puller: Puller = { process, intake, reader: undefined, unsettled: 0, draining: false };
    this.#pullers.set(puller, { source, durable: options.durable });
    this.#look(puller, 0);
    return {
      drain: async () => {
        puller.draining = true;
        puller.reader?.pullers.delete(puller);
        await intake.drain();
      },
    };
  }

  /** Finds or makes the durable reader, from the beginning of its stream. */
  #look(puller: Puller, delay: Milliseconds): void {
    puller.process.later(delay, () => {
      const about = this.#pullers.get(puller);
      if (!about || puller.reader || puller.draining) return;
      if (this.#whenBack) return this.#look(puller, TRY_AGAIN);
      const shape = streamOf(about.source);
      if (!shape) throw new Error(`no stream for ${about.source}`);
      const stream = this.#stream(shape.name);
      const name = `${about.durable} ${about.source}`;
      let reader = stream.readers.get(name);
      if (!reader) {
        const matches = matcherOf(about.source);
        const ready = stream.log.filter((m) => matches(m.subject)).map((envelope) => ({ message: { envelope }, deliveries: 0 }));
        reader = { matches, ready, pending: new Map(), pullers: new Set(), waiting: 0 };
        stream.readers.set(name, reader);
      }
      puller.reader = reader;
      reader.pullers.add(puller);
      this.#pump(reader);
    });
  }

  #pump(reader: Reader): void {
    if (this.#whenBack) return;
    while (reader.ready.length > 0) {
      const free = [...reader.pullers].filter(({ unsettled, intake, process }) => unsettled < intake.prefetch && process.alive);
      if (free.length === 0) return;
      const puller = this.#random.pick(free);
      const at = this.disorder > 0 && this.#random.chance(this.disorder) ? this.#random.int(0, reader.ready.length - 1) : 0;
      if (at > 0) this.#faults.happened('events: reordered');
      const [next] = reader.ready.splice(at, 1) as [Reader['ready'][number]];
      const deliveries = next.deliveries + 1;
      puller.unsettled++;
      reader.pending.set(next.message, { puller, deliveries });
      const late = this.disorder > 0 && this.#random.chance(this.disorder) ? this.#random.int(100, 4_000) : 0;
      if (late > 0) this.#faults.happened('events: delayed');
      puller.process.later(late + this.#random.next() * 2, () => {
        if (puller.reader !== reader) return;
        const { envelope } = next.message;
        this.#scheduler.log(`${puller.process.name} hears ${envelope.id} (${deliveries})`);
        const delivery: Delivery = { ...envelope, deliveries };
        const settle = (verdict: Verdict) => this.#settle(reader, puller, next.message, deliveries, verdict);
        if (!puller.intake.offer({ delivery, settle })) void settle({ kind: 'retry', after: 0, reason: 'drained' });
      });
    }
  }

  async #settle(reader: Reader, puller: Puller, message: Message, deliveries: number, verdict: Verdict): Promise<void> {
    await puller.process.call(
      'ack',
      () => {
        if (puller.reader === reader) puller.unsettled = Math.max(0, puller.unsettled - 1);
        const pending = reader.pending.get(message);
        if (verdict.kind === 'park') {
          const { envelope } = message;
          this.#scheduler.log(`${envelope.id} PARKED: ${verdict.reason}`);
          this.append({
            ...envelope,
            subject: parkedSubject(envelope.subject),
            headers: { ...envelope.headers, [REASON_HEADER]: verdict.reason },
          });
        }
        if (verdict.kind !== 'retry') {
          // An acknowledgement counts whoever holds the message by now.
          if (!reader.pending.delete(message)) {
            const at = reader.ready.findIndex((one) => one.message === message);
            if (at >= 0) reader.ready.splice(at, 1);
          } else if (pending && pending.puller !== puller) pending.puller.unsettled--;
          return this.#pump(reader);
        }
        if (pending?.puller !== puller || pending.deliveries !== deliveries) return this.#pump(reader);
        reader.pending.delete(message);
        reader.waiting++;
        this.#scheduler.after(verdict.after, () => {
          reader.waiting--;
          reader.ready.push({ message, deliveries });
          this.#pump(reader);
        });
      },
      undefined,
      message.envelope.id,
    );
  }

  /** The ack wait of everything that this one holds is over. */
  #takeBack(puller: Puller): void {
    const { reader } = puller;
    if (!puller.process.alive) this.#pullers.delete(puller);
    if (!reader) return;
    for (const [message, { puller: holder, deliveries }] of [...reader.pending]) {
      if (holder !== puller) continue;
      reader.pending.delete(message);
      puller.unsettled--;
      reader.ready.push({ message, deliveries });
    }
    this.#pump(reader);
  }

  #stream(name: string): Stream {
    let stream = this.#streams.get(name);
    if (!stream) {
      stream = { log: [], subjects: new Set(), ids: new Map(), readers: new Map() };
      this.#streams.set(name, stream);
    }
    return stream;
  }

  #entriesOf(bucket: string): Map<string, string> {
    let entries = this.#buckets.get(bucket);
    if (!entries) {
      entries = new Map();
      this.#buckets.set(bucket, entries);
    }
    return entries;
  }
}
