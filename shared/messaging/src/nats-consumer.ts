import { setTimeout as delay } from 'node:timers/promises';
import { type Milliseconds, messageOf, type Verdict } from '@millrace/core';
import { AckPolicy, type Consumer, type ConsumerMessages, DeliverPolicy, type JsMsg, jetstream } from '@nats-io/jetstream';
import { type NatsConnection, nanos } from 'nats';
import { unbundle } from './bundle.ts';
import { Intake } from './intake.ts';
import type { Log } from './log.ts';
import { apiCodeOf, type NatsStreams } from './nats-streams.ts';
import type { StreamShape } from './parking.ts';
import type { Delivery, Handler, SubscribeOptions } from './ports.ts';

/** What a reader that died held is delivered again after this time; what a living one holds is renewed before. */
const ACK_WAIT: Milliseconds = 10_000;
const RENEW: Milliseconds = 3_000;
/** How long one pull waits for messages; the server says it is alive at half of that. */
const PULL: Milliseconds = 10_000;
const TRY_AGAIN: Milliseconds = 500;

interface Wiring {
  readonly nc: NatsConnection;
  readonly streams: NatsStreams;
  readonly log: Log;
  park(delivery: Delivery, reason: string): Promise<void>;
}

/**
 * absent -> pulling -> (connection lost | stream or consumer gone) -> absent … until drained.
 * Pulls as much as `prefetch` has room for: `asked` for but not arrived, plus arrived and `unsettled`. A new pull starts
 * once half of it is free, so two or three are under way at most and none waits for another to fill up.
 */
export class NatsConsumer {
  readonly #stream: StreamShape;
  readonly #source: string;
  readonly #name: string;
  readonly #prefetch: number;
  readonly #wiring: Wiring;
  readonly #intake: Intake;
  readonly #stopping = new AbortController();
  readonly #unsettled = new Set<JsMsg>();
  readonly #pulls = new Set<ConsumerMessages>();
  readonly #renewal: NodeJS.Timeout;
  readonly #loop: Promise<void>;
  #asked = 0;
  #wake: () => void = () => {};

  constructor(stream: StreamShape, source: string, options: SubscribeOptions, handler: Handler, wiring: Wiring) {
    this.#stream = stream;
    this.#source = source;
    this.#name = consumerName(options.durable, source);
    this.#prefetch = Math.max(1, options.prefetch ?? 64);
    this.#wiring = wiring;
    this.#intake = new Intake(handler, {
      batch: options.batch ?? 1,
      prefetch: this.#prefetch,
      linger: options.linger,
      enough: options.enough,
      log: wiring.log,
    });
    this.#renewal = setInterval(() => this.#renew(), RENEW).unref();
    this.#loop = this.#run();
  }

  /** The connection went away: whatever was asked for is forgotten by the server. */
  reset(): void {
    for (const pull of this.#pulls) pull.stop(new Error('the connection was lost'));
  }

  async drain(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    for (const pull of this.#pulls) pull.stop();
    await this.#loop;
    for (const arrival of this.#intake.close()) await arrival.settle({ kind: 'retry', after: 0, reason: 'drained' });
    await this.#intake.idle();
    clearInterval(this.#renewal);
    // Acknowledgements are only written to the socket: wait until the server has read them.
    await Promise.race([this.#wiring.nc.flush(), delay(2_000, undefined, { ref: false })]).catch(() => {});
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#pullUntilLost(await this.#consumer(), signal);
      } catch (error) {
        this.#wiring.log.info(
          {
            source: this.#source,
            consumer: this.#name,
            reason: messageOf(error),
          },
          'cannot consume yet; trying again',
        );
      }
      await delay(TRY_AGAIN, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** Made anew when it is missing, then from the beginning of the stream: derived ids make the repetition harmless. */
  async #consumer(): Promise<Consumer> {
    const { nc, streams } = this.#wiring;
    const { consumers } = await streams.manager();
    const info = await consumers.info(this.#stream.name, this.#name).catch(async (error: unknown) => {
      const code = apiCodeOf(error);
      if (code !== 10014 && code !== 10059) throw error;
      if (code === 10059) await streams.ensure();
      return consumers.add(this.#stream.name, {
        durable_name: this.#name,
        filter_subject: this.#source,
        ack_policy: AckPolicy.Explicit,
        ack_wait: nanos(ACK_WAIT),
        deliver_policy: DeliverPolicy.All,
        max_deliver: -1,
        // The bound is each reader's prefetch; this one only keeps readers that share the name from starving another.
        max_ack_pending: 20_000,
      });
    });
    return jetstream(nc).consumers.getConsumerFromInfo(info);
  }

  async #pullUntilLost(consumer: Consumer, signal: AbortSignal): Promise<void> {
    let failure: unknown;
    const running = new Set<Promise<void>>();
    while (!signal.aborted && failure === undefined) {
      const room = this.#prefetch - this.#asked - this.#unsettled.size;
      if (room >= Math.max(1, this.#prefetch >> 1)) {
        const pull = this.#pull(consumer, room)
          .catch((error: unknown) => {
            failure ??= error;
          })
          .finally(() => {
            running.delete(pull);
            this.#wake();
          });
        running.add(pull);
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
    for (const pull of this.#pulls) pull.stop();
    await Promise.all(running);
    if (failure !== undefined) throw failure;
  }

  async #pull(consumer: Consumer, room: number): Promise<void> {
    let left = room;
    this.#asked += room;
    let pull: ConsumerMessages | undefined;
    try {
      pull = await consumer.fetch({ max_messages: room, expires: PULL });
      this.#pulls.add(pull);
      if (this.#stopping.signal.aborted) pull.stop();
      for await (const message of pull) {
        left--;
        this.#asked--;
        this.#arrive(message);
      }
    } finally {
      this.#asked -= left;
      if (pull !== undefined) this.#pulls.delete(pull);
    }
  }

  /** A message is answered when all that it holds is settled; it goes back as a whole when any part of it does. */
  #arrive(message: JsMsg): void {
    this.#unsettled.add(message);
    const deliveries = deliveriesOf(message);
    let open = deliveries.length;
    let again: Milliseconds | undefined;
    const goesBack = (after: Milliseconds) => {
      again = Math.max(again ?? 0, after);
    };
    for (const delivery of deliveries) {
      const settle = async (verdict: Verdict) => {
        try {
          if (verdict.kind === 'park') await this.#wiring.park(delivery, verdict.reason);
          if (verdict.kind === 'retry') goesBack(Math.ceil(verdict.after));
        } catch (error) {
          goesBack(5_000);
          throw error;
        } finally {
          if (--open === 0) this.#answer(message, again);
        }
      };
      if (!this.#intake.offer({ delivery, settle })) void settle({ kind: 'retry', after: 0, reason: 'drained' });
    }
  }

  #answer(message: JsMsg, again: Milliseconds | undefined): void {
    try {
      if (again === undefined) message.ack();
      // A pause of 0 would come back at once to a server that takes 0 for "none": both mean now.
      else message.nak(again || undefined);
    } finally {
      this.#unsettled.delete(message);
      this.#wake();
    }
  }

  #renew(): void {
    if (this.#wiring.nc.isClosed()) return;
    for (const message of this.#unsettled) message.working();
  }
}

/** One consumer for each reader and filter. Job names hold no `_`, so the dots can become one. */
export function consumerName(durable: string, source: string): string {
  return `${durable}__${source}`
    .replaceAll('.', '_')
    .replaceAll('*', 'any')
    .replaceAll('>', 'all')
    .replace(/[^A-Za-z0-9_-]/g, '-');
}

/** What cannot be taken apart is handed on as it is: whoever reads it parks it. */
function deliveriesOf(message: JsMsg): readonly Delivery[] {
  const delivery = deliveryOf(message);
  try {
    return unbundle(delivery)?.map((part) => ({ ...part, deliveries: delivery.deliveries })) ?? [delivery];
  } catch {
    return [delivery];
  }
}

function deliveryOf(message: JsMsg): Delivery {
  const headers: Record<string, string> = {};
  for (const name of message.headers?.keys() ?? []) if (!name.startsWith('Nats-')) headers[name] = message.headers?.get(name) ?? '';
  const id = message.headers?.get('Nats-Msg-Id') || `${message.info.stream}:${message.seq}`;
  return {
    id,
    subject: message.subject,
    headers,
    body: message.data,
    deliveries: Math.max(1, message.info.deliveryCount),
  };
}
