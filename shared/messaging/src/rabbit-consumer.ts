import { setTimeout as delay } from 'node:timers/promises';
import { type Envelope, type Milliseconds, messageOf, PARKED_QUEUE, type Verdict } from '@millrace/core';
import type { Channel, ConsumeMessage } from 'amqplib';
import { Intake } from './intake.ts';
import type { Log } from './log.ts';
import { REASON_HEADER } from './parking.ts';
import type { Delivery, Handler, SubscribeOptions } from './ports.ts';

/** How often a missing queue is looked for. */
const LOOK_AGAIN: Milliseconds = 500;
/** Longer waits would come near the broker's consumer timeout (30 minutes). */
const LONGEST_WAIT: Milliseconds = 10 * 60_000;

interface Wiring {
  openChannel(): Promise<Channel>;
  publish(envelope: Envelope): Promise<void>;
  readonly log: Log;
}

/**
 * absent -> open -> (channel lost | cancelled by the broker) -> absent … until drained.
 * Each pass has a channel of its own: consuming from a queue that does not exist kills the channel.
 */
export class RabbitConsumer {
  readonly #queue: string;
  readonly #prefetch: number;
  readonly #wiring: Wiring;
  readonly #intake: Intake;
  readonly #stopping = new AbortController();
  /** Deliveries that wait before they go back, with the way to send them back now. */
  readonly #waiting = new Set<() => void>();
  #open: { readonly channel: Channel; readonly tag: string } | undefined;
  readonly #loop: Promise<void>;

  constructor(queue: string, options: SubscribeOptions, handler: Handler, wiring: Wiring) {
    this.#queue = queue;
    this.#prefetch = Math.max(1, Math.min(options.prefetch ?? 64, 65_535));
    this.#wiring = wiring;
    this.#intake = new Intake(handler, {
      batch: options.batch ?? 1,
      prefetch: this.#prefetch,
      linger: options.linger,
      enough: options.enough,
      log: wiring.log,
    });
    this.#loop = this.#run();
  }

  async drain(): Promise<void> {
    this.#stopping.abort();
    const open = this.#open;
    // Without the cancel, messages that were acknowledged come back when the channel closes.
    if (open !== undefined) await open.channel.cancel(open.tag).catch(() => {});
    for (const arrival of this.#intake.close()) await arrival.settle({ kind: 'retry', after: 0, reason: 'drained' });
    for (const giveBack of [...this.#waiting]) giveBack();
    // What is given back from here on goes at once.
    await this.#intake.idle();
    this.#open = undefined;
    await open?.channel.close().catch(() => {});
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#consumeUntilLost(signal);
      } catch (error) {
        this.#wiring.log.info({ queue: this.#queue, reason: messageOf(error) }, 'cannot consume yet; trying again');
      }
      this.#intake.discard();
      await delay(LOOK_AGAIN, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  async #consumeUntilLost(signal: AbortSignal): Promise<void> {
    const channel = await unlessAborted(this.#wiring.openChannel(), signal);
    if (channel === undefined) return;
    // The broker says `null` when it cancels the consumer, for instance because the queue was deleted.
    let cancelled = () => {};
    const lost = new Promise<'closed' | 'cancelled'>((resolve) => {
      cancelled = () => resolve('cancelled');
      channel.on('close', () => resolve('closed'));
    });
    channel.on('error', () => {});
    await channel.prefetch(this.#prefetch);
    const { consumerTag } = await channel.consume(this.#queue, (message) => {
      if (message === null) cancelled();
      else if (
        !this.#intake.offer({
          delivery: deliveryOf(message),
          settle: (verdict) => this.#settle(channel, message, verdict),
        })
      )
        quietly(() => channel.nack(message, false, true));
    });
    if (signal.aborted) {
      await channel.cancel(consumerTag).catch(() => {});
      await channel.close().catch(() => {});
      return;
    }
    this.#open = { channel, tag: consumerTag };
    const why = await lost;
    if (signal.aborted) return; // drain() closes the channel
    this.#open = undefined;
    if (why === 'cancelled') await channel.close().catch(() => {});
  }

  #settle(channel: Channel, message: ConsumeMessage, verdict: Verdict): void | Promise<void> {
    switch (verdict.kind) {
      case 'done':
        return quietly(() => channel.ack(message));
      case 'retry':
        return this.#giveBackLater(channel, message, verdict.after);
      case 'park':
        return this.#park(channel, message, verdict.reason);
    }
  }

  /** The delivery keeps its place in the prefetch while it waits: a failing sink slows its consumers down. */
  #giveBackLater(channel: Channel, message: ConsumeMessage, after: Milliseconds): void {
    const giveBack = () => {
      clearTimeout(timer);
      this.#waiting.delete(giveBack);
      quietly(() => channel.nack(message, false, true));
    };
    const timer = setTimeout(giveBack, this.#stopping.signal.aborted ? 0 : Math.min(Math.max(0, after), LONGEST_WAIT));
    this.#waiting.add(giveBack);
  }

  async #park(channel: Channel, message: ConsumeMessage, reason: string): Promise<void> {
    const { id, headers, body } = deliveryOf(message);
    try {
      await this.#wiring.publish({
        id,
        subject: PARKED_QUEUE,
        headers: { ...headers, [REASON_HEADER]: reason },
        body,
      });
    } catch (error) {
      this.#wiring.log.warn({ id, err: error }, 'cannot park a message; it goes back to its queue');
      return this.#giveBackLater(channel, message, 5_000);
    }
    quietly(() => channel.ack(message));
  }
}

function deliveryOf(message: ConsumeMessage): Delivery {
  const { properties, fields } = message;
  const raw = (properties.headers ?? {}) as Record<string, unknown>;
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(raw)) if (typeof value === 'string' && !name.startsWith('x-')) headers[name] = value;
  const count = Number(raw['x-delivery-count'] ?? 0);
  const deliveries = Number.isFinite(count) && count > 0 ? count + 1 : fields.redelivered ? 2 : 1;
  return {
    id: String(properties.messageId ?? ''),
    subject: fields.routingKey,
    headers,
    body: message.content,
    deliveries,
  };
}

/** On a channel that has closed meanwhile the broker has already taken everything back. */
function quietly(act: () => void): void {
  try {
    act();
  } catch {}
}

/** Opening a channel waits for the connection, perhaps for long: a drain must not. */
async function unlessAborted(opening: Promise<Channel>, signal: AbortSignal): Promise<Channel | undefined> {
  const settled = new AbortController();
  const aborted = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener('abort', () => resolve(undefined), {
      once: true,
      signal: settled.signal,
    });
  });
  const channel = await Promise.race([opening, aborted]).finally(() => settled.abort());
  if (channel === undefined) opening.then((late) => late.close()).catch(() => {});
  return channel;
}
