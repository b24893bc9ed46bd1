import { setTimeout as delay } from 'node:timers/promises';
import { type JetStreamClient, jetstream } from '@nats-io/jetstream';
import { type Envelope, type Milliseconds, MillraceError, messageOf } from '@millrace/core';
import { headers, type NatsConnection } from 'nats';
import type { Log } from './log.ts';
import { apiCodeOf, apiStatusOf, type NatsStreams } from './nats-streams.ts';
import { streamOf } from './parking.ts';
import type { PublishOptions } from './ports.ts';

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
  readonly #limit: number;
  readonly #room: (() => void)[] = [];
  readonly #closing = new AbortController();
  #inFlight = 0;

  constructor(nc: NatsConnection, streams: NatsStreams, log: Log, limit: number) {
    this.#nc = nc;
    this.#js = jetstream(nc, { timeout: ACK_TIMEOUT });
    this.#streams = streams;
    this.#log = log;
    this.#limit = limit;
  }

  async publish(messages: readonly Envelope[], options: PublishOptions = {}): Promise<void> {
    const acknowledged: Promise<void>[] = [];
    let failure: unknown;
    for (const message of messages) {
      while (this.#inFlight >= this.#limit) await new Promise<void>((resolve) => this.#room.push(resolve));
      if (failure !== undefined) break;
      this.#inFlight++;
      acknowledged.push(
        this.#publishOne(message, options)
          .catch((error: unknown) => {
            failure ??= error;
          })
          .finally(() => {
            this.#inFlight--;
            this.#room.shift()?.();
          }),
      );
    }
    await Promise.all(acknowledged);
    if (failure !== undefined) throw failure;
    // Whoever was woken by the last place and did not need it passes it on.
    if (this.#inFlight < this.#limit) this.#room.shift()?.();
  }

  close(): void {
    this.#closing.abort(new Error('the connection is closed'));
  }

  async #publishOne(message: Envelope, { once, signal }: PublishOptions): Promise<void> {
    if (streamOf(message.subject) === undefined) throw new MillraceError('MR3013', `no stream holds "${message.subject}" (message ${message.id})`);
    const given = signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
    for (let pause = 100; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
      if (given.aborted) throw new MillraceError('MR3013', `publishing ${message.id} was aborted`, { cause: given.reason });
      try {
        await unlessAborted(
          this.#js.publish(message.subject, message.body, {
            msgID: message.id,
            headers: headersOf(message),
            ...(once === true ? { expect: { lastSubjectSequence: 0 } } : {}),
          }),
          given,
        );
        return;
      } catch (error) {
        if (once === true && apiCodeOf(error) === WRONG_LAST_SEQUENCE) return;
        if (this.#isFinal(error)) throw new MillraceError('MR3013', `NATS refused message ${message.id} for "${message.subject}" (${messageOf(error)})`, { cause: error });
        if (!given.aborted && pause >= 800) this.#log.warn({ id: message.id, reason: messageOf(error) }, 'NATS does not accept a message yet; trying again');
        // No responders or no stream: the server may have been wiped. Where it is merely away this fails, and so be it.
        if (!given.aborted && !this.#nc.isClosed()) await this.#streams.ensure().catch(() => {});
      }
      // Half fixed, half random: publishers that lost one server do not return in step.
      await delay(pause / 2 + (Math.random() * pause) / 2, undefined, { signal: given, ref: false }).catch(() => {});
    }
  }

  #isFinal(error: unknown): boolean {
    if (this.#nc.isClosed()) return true;
    const status = apiStatusOf(error);
    if (status !== undefined) return status < 500 && apiCodeOf(error) !== STREAM_NOT_FOUND;
    const name = (error as Error)?.name;
    return name === 'InvalidArgumentError' || name === 'InvalidSubjectError' || name === 'PermissionViolationError';
  }
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
