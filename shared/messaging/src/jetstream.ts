import { setTimeout as delay } from 'node:timers/promises';
import { type Envelope, type Milliseconds, MillraceError, messageOf } from '@millrace/core';
import { connect, type NatsConnection } from 'nats';
import { type Log, silent } from './log.ts';
import { NatsBucket } from './nats-bucket.ts';
import { NatsConsumer } from './nats-consumer.ts';
import { NatsPublisher } from './nats-publisher.ts';
import { apiCodeOf, NatsStreams } from './nats-streams.ts';
import { parkedSubject, REASON_HEADER, streamOf } from './parking.ts';
import type { Bucket, EventBroker, Handler, PublishOptions, SubscribeOptions, Subscription } from './ports.ts';

export interface JetStreamOptions {
  /** `nats://user:password@host:4222`, `nats://token@host:4222`; several servers separated by commas. */
  readonly url: string;
  readonly log?: Log;
  /** First tokens of the subjects that replies to this process come on; only it should be allowed to read them. Default `_INBOX`. */
  readonly inbox?: string;
  /** Copies of each stream and bucket that is created here. Default 1. */
  readonly replicas?: number;
  /** Messages that may be on their way to the server without its acknowledgement. Default 256. */
  readonly maxUnconfirmed?: number;
}

/**
 * NATS JetStream, server 2.9 and later. Streams are made when they are missing, also after the server lost them.
 * Rejects with MR3005, MR3006 or MR3007 when the first connection fails; afterwards it reconnects for ever.
 */
export async function connectJetStream(options: JetStreamOptions): Promise<EventBroker> {
  const { url, log = silent, inbox = '_INBOX', replicas = 1, maxUnconfirmed = 256 } = options;
  const { servers, hosts, login } = prepare(url);
  let nc: NatsConnection;
  try {
    nc = await connect({
      servers,
      ...login,
      name: 'millrace',
      inboxPrefix: inbox,
      maxReconnectAttempts: -1,
      waitOnFirstConnect: false,
      reconnectTimeWait: 250,
      reconnectJitter: 250,
      // A half-open connection is noticed after two pings without an answer.
      pingInterval: 5_000,
      maxPingOut: 2,
      timeout: 10_000,
      // Each request would take a stack trace along, in case it fails.
      noAsyncTraces: true,
      // Refused credentials during a reconnect are a server that is being set up anew, not a reason to stop for good.
      ignoreAuthErrorAbort: true,
    });
  } catch (error) {
    throw refusal(error, hosts);
  }
  const streams = new NatsStreams(nc, replicas);
  try {
    await firstEnsure(streams);
  } catch (error) {
    await nc.close();
    if ((error as { code?: unknown })?.code === 'MR3011') throw error;
    if (isDisabled(error)) throw new MillraceError('MR3007', hosts);
    throw new MillraceError('MR3005', `${hosts} (${messageOf(error)})`);
  }
  log.info({ hosts }, 'connected to NATS');
  return new JetStream(nc, streams, hosts, { log, replicas, maxUnconfirmed });
}

class JetStream implements EventBroker {
  readonly system = 'nats';
  readonly #nc: NatsConnection;
  readonly #streams: NatsStreams;
  readonly #log: Log;
  readonly #replicas: number;
  readonly #publisher: NatsPublisher;
  readonly #consumers = new Set<NatsConsumer>();
  #up = true;

  constructor(nc: NatsConnection, streams: NatsStreams, hosts: string, options: { log: Log; replicas: number; maxUnconfirmed: number }) {
    this.#nc = nc;
    this.#streams = streams;
    this.#log = options.log;
    this.#replicas = options.replicas;
    this.#publisher = new NatsPublisher(nc, streams, options.log, options.maxUnconfirmed);
    void this.#watch(hosts);
  }

  connected(): boolean {
    return this.#up && !this.#nc.isClosed();
  }

  publish(messages: readonly Envelope[], options: PublishOptions = {}): Promise<void> {
    return this.#publisher.publish(messages, options);
  }

  async subscribe(source: string, options: SubscribeOptions, handler: Handler): Promise<Subscription> {
    const stream = streamOf(source);
    if (stream === undefined) throw new MillraceError('MR3013', `no stream holds "${source}"`);
    const consumer = new NatsConsumer(stream, source, options, handler, {
      nc: this.#nc,
      streams: this.#streams,
      log: this.#log,
      park: ({ id, subject, headers, body }, reason) =>
        this.#publisher.publish([
          {
            id,
            subject: parkedSubject(subject),
            headers: { ...headers, [REASON_HEADER]: reason },
            body,
          },
        ]),
    });
    this.#consumers.add(consumer);
    return {
      drain: async () => {
        await consumer.drain();
        this.#consumers.delete(consumer);
      },
    };
  }

  bucket(name: string): Bucket {
    return new NatsBucket(this.#nc, name, this.#replicas);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.drain()));
    this.#publisher.close();
    this.#up = false;
    await this.#nc.close();
  }

  async #watch(hosts: string): Promise<void> {
    for await (const { type } of this.#nc.status()) {
      if (type === 'disconnect') {
        this.#up = false;
        this.#log.warn({ hosts }, 'lost NATS; connecting again');
        for (const consumer of this.#consumers) consumer.reset();
      }
      if (type === 'reconnect') {
        this.#up = true;
        this.#log.info({ hosts }, 'connected to NATS again');
      }
    }
  }
}

/** A server that has just started answers before its JetStream does. */
async function firstEnsure(streams: NatsStreams, patience: Milliseconds = 3_000): Promise<void> {
  for (let waited = 0; ; waited += 250) {
    try {
      return await streams.ensure();
    } catch (error) {
      if (!isDisabled(error) || waited >= patience) throw error;
      await delay(250);
    }
  }
}

/** 10039: not for this account; 10076: not on this server; nobody answers: it runs without. */
function isDisabled(error: unknown): boolean {
  const code = apiCodeOf(error);
  const { name, message } = (error ?? {}) as Partial<Error>;
  return (
    code === 10039 ||
    code === 10076 ||
    name === 'JetStreamNotEnabled' ||
    name === 'NoRespondersError' ||
    /no responders|jetstream is not enabled/i.test(message ?? '')
  );
}

function refusal(error: unknown, hosts: string): MillraceError {
  const text = messageOf(error);
  if (/authori[sz]ation|authentication|permission/i.test(`${(error as Error)?.name} ${text}`)) return new MillraceError('MR3006', hosts);
  const code = (error as { code?: unknown })?.code ?? ((error as Error)?.cause as { code?: unknown } | undefined)?.code;
  return new MillraceError('MR3005', `${hosts} (${typeof code === 'string' ? code : text})`);
}

/** The client takes no credentials in URLs. */
function prepare(url: string): {
  servers: string[];
  hosts: string;
  login: { user?: string; pass?: string; token?: string; tls?: object };
} {
  try {
    const urls = url.split(',').map((text) => new URL(text.includes('://') ? text.trim() : `nats://${text.trim()}`));
    const servers = urls.map((each) => `${each.hostname}:${each.port || 4222}`);
    const user = decodeURIComponent(urls[0]?.username ?? '');
    const pass = decodeURIComponent(urls[0]?.password ?? '');
    const login = user === '' ? {} : pass === '' ? { token: user } : { user, pass };
    return {
      servers,
      hosts: servers.join(', '),
      login: {
        ...login,
        ...(urls.some(({ protocol }) => protocol === 'tls:') ? { tls: {} } : {}),
      },
    };
  } catch {
    throw new MillraceError('MR2001', 'NATS_URL is not a URL such as nats://user:password@host:4222');
  }
}
