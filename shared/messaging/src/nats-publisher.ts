import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { type Envelope, type Milliseconds, MillraceError, messageOf } from '@millrace/core';
import { type JetStreamClient, jetstream } from '@nats-io/jetstream';
import { headers, type NatsConnection } from 'nats';
import { bundle } from './bundle.ts';
import type { Log } from './log.ts';
import { apiCodeOf, apiStatusOf, isForbidden, type NatsStreams } from './nats-streams.ts';
import { streamOf } from './parking.ts';
import type { PublishOptions } from './ports.ts';
import { Window } from './window.ts';

const WRONG_LAST_SEQUENCE = 10071;
const STREAM_NOT_FOUND = 10059;
const ACK_TIMEOUT: Milliseconds = 5_000;
const LONGEST_PAUSE: Milliseconds = 5_000;

/** Publishes with a bounded number of unacknowledged messages, for ever while the server is away. */
export class NatsPublisher {
  readonly #js: JetStreamClient;
  readonly #nc: NatsConnection;
  readonly #streams: NatsStreams;
  readonly #log: Log;
  readonly #window: Window;
  readonly #closing = new AbortController();
  readonly #stops = new WeakMap<AbortSignal, AbortSignal>();

  constructor(nc: NatsConnection, streams: NatsStreams, log: Log, limit: number) {
    this.#nc = nc;
    this.#js = jetstream(nc, { timeout: ACK_TIMEOUT });
    this.#streams = streams;
    this.#log = log;
    this.#window = new Window(limit);
    setMaxListeners(0, this.#closing.signal);
  }

  async publish(messages: readonly Envelope[], { once = false, together = false, signal }: PublishOptions = {}): Promise<void> {
    const stop = this.#stopOf(signal);
    const acknowledged: Promise<void>[] = [];
    let failure: unknown;
    for (const message of together ? bundle(messages) : messages) {
      const entered = await this.#window.enter(stop);
      if (!entered) failure ??= aborted(message, stop);
      if (failure !== undefined) {
        if (entered) this.#window.leave();
        break;
      }
      acknowledged.push(
        this.#publishOne(message, once, stop)
          .catch((error: unknown) => {
            failure ??= error;
          })
          .finally(() => this.#window.leave()),
      );
    }
    await Promise.all(acknowledged);
    if (failure !== undefined) throw failure;
  }

  /** Callers publish again and again under one signal of theirs. */
  #stopOf(signal: AbortSignal | undefined): AbortSignal {
    if (signal === undefined) return this.#closing.signal;
    const stop = this.#stops.get(signal) ?? AbortSignal.any([signal, this.#closing.signal]);
    this.#stops.set(signal, stop);
    setMaxListeners(0, stop); // one for each message on its way
    return stop;
  }

  close(): void {
    this.#closing.abort(new Error('the connection is closed'));
  }

  async #publishOne(message: Envelope, once: boolean, stop: AbortSignal): Promise<void> {
    if (streamOf(message.subject) === undefined)
      throw new MillraceError('MR3013', `no stream holds "${message.subject}" (message ${message.id})`);
    for (let pause = 100; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
      if (stop.aborted) throw aborted(message, stop);
      try {
        await unlessAborted(
          this.#js.publish(message.subject, message.body, {
            msgID: message.id,
            headers: headersOf(message),
            ...(once ? { expect: { lastSubjectSequence: 0 } } : {}),
          }),
          stop,
        );
        return;
      } catch (error) {
        if (once && apiCodeOf(error) === WRONG_LAST_SEQUENCE) return;
        if (this.#isFinal(error))
          throw new MillraceError('MR3013', `NATS refused message ${message.id} for "${message.subject}" (${messageOf(error)})`, {
            cause: error,
          });
        if (!stop.aborted && pause >= 800)
          this.#log.warn({ id: message.id, reason: messageOf(error) }, 'NATS does not accept a message yet; trying again');
        // No responders or no stream: the server may have been wiped. Where it is merely away this fails, and so be it.
        if (!stop.aborted && !this.#nc.isClosed()) await this.#streams.ensure().catch(() => {});
      }
      // Half fixed, half random: publishers that lost one server do not return in step.
      await delay(pause / 2 + (Math.random() * pause) / 2, undefined, {
        signal: stop,
        ref: false,
      }).catch(() => {});
    }
  }

  #isFinal(error: unknown): boolean {
    if (this.#nc.isClosed()) return true;
    const status = apiStatusOf(error);
    if (status !== undefined) return status < 500 && apiCodeOf(error) !== STREAM_NOT_FOUND;
    const name = (error as Error)?.name;
    return name === 'InvalidArgumentError' || name === 'InvalidSubjectError' || isForbidden(error);
  }
}

function aborted({ id }: Envelope, { reason }: AbortSignal): MillraceError {
  return new MillraceError('MR3013', `publishing ${id} was aborted`, {
    cause: reason,
  });
}

function headersOf({ headers: given }: Envelope) {
  const made = headers();
  // Line breaks would end the header block.
  for (const [name, value] of Object.entries(given)) made.set(name, value.replace(/[\r\n]+/g, ' '));
  return made;
}

async function unlessAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  let abort: () => void = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort);
  });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
    work.catch(() => {});
  }
}
