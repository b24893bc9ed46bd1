import { setMaxListeners } from 'node:events';
import { type Envelope, MillraceError, messageOf } from '@millrace/core';
import type { ChannelModel, ConfirmChannel } from 'amqplib';
import type { PublishOptions } from './ports.ts';
import { Window } from './window.ts';

interface Outgoing {
  readonly token: string;
  readonly envelope: Envelope;
  readonly settle: (error?: MillraceError) => void;
}

/**
 * Publishes with confirms. A message stays in `#outgoing` until the broker confirms, refuses or returns it; what a lost
 * channel leaves there is sent again over the next one (at least once). The size of that map is bounded by a window: amqplib itself
 * buffers without limit while the broker blocks.
 */
export class RabbitPublisher {
  readonly #window: Window;
  readonly #persistent: (envelope: Envelope) => boolean;
  readonly #outgoing = new Map<string, Outgoing>();
  #channel: ConfirmChannel | undefined;
  #closed = false;
  #count = 0;

  /** @param persistent whether a message must outlive a restart of the broker. */
  constructor(limit: number, persistent: (envelope: Envelope) => boolean) {
    this.#window = new Window(limit);
    this.#persistent = persistent;
  }

  /** Called for every new connection. */
  async attach(model: ChannelModel): Promise<void> {
    const channel = await model.createConfirmChannel();
    channel.on('error', () => {});
    channel.on('close', () => {
      if (this.#channel !== channel) return;
      this.#channel = undefined;
      // A channel that dies alone (a message the broker finds malformed) must not stop publishing for ever.
      setTimeout(() => void this.#reopen(model), 100).unref();
    });
    // The return of an unroutable message arrives before its confirm.
    channel.on('return', ({ properties, fields }) => {
      const outgoing = this.#outgoing.get(String(properties.correlationId));
      outgoing?.settle(new MillraceError('MR3013', `there is no queue "${fields.routingKey}" (message ${outgoing.envelope.id})`));
    });
    this.#channel = channel;
    for (const outgoing of [...this.#outgoing.values()]) this.#send(channel, outgoing);
  }

  async publish(messages: readonly Envelope[], { signal }: Pick<PublishOptions, 'signal'> = {}): Promise<void> {
    // Each message on its way listens.
    if (signal) setMaxListeners(0, signal);
    const confirmed: Promise<void>[] = [];
    let failure: unknown;
    for (const message of messages) {
      const entered = await this.#window.enter(signal);
      if (!entered) failure ??= new MillraceError('MR3013', `publishing ${message.id} was aborted`, { cause: signal?.reason });
      if (failure !== undefined) {
        if (entered) this.#window.leave();
        break;
      }
      confirmed.push(
        this.#publishOne(message, signal).catch((error: unknown) => {
          failure ??= error;
        }),
      );
    }
    await Promise.all(confirmed);
    if (failure !== undefined) throw failure;
  }

  close(): void {
    this.#closed = true;
    for (const outgoing of [...this.#outgoing.values()])
      outgoing.settle(new MillraceError('MR3013', 'the connection was closed before the broker confirmed'));
  }

  #publishOne(envelope: Envelope, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const token = String(++this.#count);
      const abort = () =>
        outgoing.settle(
          new MillraceError('MR3013', `publishing ${envelope.id} was aborted`, {
            cause: signal?.reason,
          }),
        );
      const outgoing: Outgoing = {
        token,
        envelope,
        settle: (error) => {
          if (!this.#outgoing.delete(token)) return;
          signal?.removeEventListener('abort', abort);
          this.#window.leave();
          if (error === undefined) resolve();
          else reject(error);
        },
      };
      this.#outgoing.set(token, outgoing);
      signal?.addEventListener('abort', abort);
      if (this.#closed) outgoing.settle(new MillraceError('MR3013', 'the connection is closed'));
      else if (signal?.aborted) abort();
      else if (this.#channel !== undefined) this.#send(this.#channel, outgoing);
    });
  }

  #send(channel: ConfirmChannel, { envelope, token, settle }: Outgoing): void {
    const { body } = envelope;
    const content = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    const options = {
      persistent: this.#persistent(envelope),
      mandatory: true,
      messageId: envelope.id,
      correlationId: token,
      contentType: 'application/json',
      headers: envelope.headers,
    };
    try {
      channel.publish('', envelope.subject, content, options, (error) => {
        if (error == null) settle();
        // Any other error says that the channel closed: the message is sent again over the next one.
        else if (messageOf(error) === 'message nacked')
          settle(new MillraceError('MR3013', `RabbitMQ refused message ${envelope.id} for "${envelope.subject}"`));
      });
    } catch (error) {
      // A closing channel also throws: those messages are sent again over the next one. Anything else is our own mistake.
      if ((error as Error).name !== 'IllegalOperationError')
        settle(new MillraceError('MR3013', `message ${envelope.id} cannot be encoded`, { cause: error }));
    }
  }

  /** Until it works, or until the recovery of the connection has attached a new channel. */
  async #reopen(model: ChannelModel): Promise<void> {
    if (this.#closed || this.#channel !== undefined) return;
    await this.attach(model).catch(() => setTimeout(() => void this.#reopen(model), 1_000).unref());
  }
}
