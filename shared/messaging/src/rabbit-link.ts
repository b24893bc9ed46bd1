import { setTimeout as delay } from 'node:timers/promises';
import { type Milliseconds, MillraceError, messageOf } from '@millrace/core';
import { type ChannelModel, connect, type RecoveringChannelModel } from 'amqplib';
import type { Log } from './log.ts';

const GOODBYE: Milliseconds = 3_000;

/** One AMQP connection that comes back by itself. `setup` builds its channels anew each time. */
export interface Link {
  readonly model: RecoveringChannelModel;
  up(): boolean;
  close(): Promise<void>;
}

export async function openLink(url: string, purpose: string, log: Log, setup: (model: ChannelModel) => Promise<void>): Promise<Link> {
  const { address, host } = prepare(url);
  let up = false;
  let closed = false;
  const prepared = async (fresh: ChannelModel) => {
    fresh.on('error', () => {}); // until the recovery listens, an error here would end the process
    await setup(fresh);
  };
  const model = await connect(address, {
    timeout: 10_000,
    noDelay: true,
    clientProperties: { connection_name: `millrace ${purpose}` },
    // The first connection fails fast, so that a wrong URL is a message and not a silence.
    recovery: {
      initialDelay: 100,
      maxDelay: 5_000,
      jitter: 0.5,
      initialMaxRetries: 0,
      waitForConnect: false,
      setup: prepared,
    },
  });
  model.on('error', () => {}); // always followed by 'disconnect'
  model.on('connect', () => {
    up = true;
    log.info({ host, purpose }, 'connected to RabbitMQ');
  });
  model.on('disconnect', (error) => {
    up = false;
    if (!closed) log.warn({ host, purpose, reason: messageOf(error) }, 'lost RabbitMQ; connecting again');
  });
  model.on('blocked', (reason) => log.warn({ host, reason }, 'RabbitMQ is blocking publishers; waiting'));
  model.on('unblocked', () => log.info({ host }, 'RabbitMQ accepts messages again'));
  try {
    await model.waitForConnect();
  } catch (error) {
    await politely(model.close());
    throw refusal(error, host);
  }
  up = true;
  return {
    model,
    up: () => up,
    close: async () => {
      closed = true;
      up = false;
      await politely(model.close());
    },
  };
}

/** A broker that is stalled or half gone does not answer the good-bye, and nobody should wait for it. */
async function politely(closing: Promise<void>): Promise<void> {
  const answered = new AbortController();
  const late = delay(GOODBYE, undefined, { signal: answered.signal }).catch(() => {});
  await Promise.race([closing, late]).finally(() => answered.abort());
}

function refusal(error: unknown, host: string): MillraceError {
  const text = messageOf(error);
  if (/ACCESS[_-]REFUSED|NOT_ALLOWED|403|530|Handshake terminated|authentication/i.test(text))
    return new MillraceError('MR3004', `${host} refused the login or the virtual host`);
  const code = (error as { code?: unknown })?.code ?? (error as { cause?: { code?: unknown } })?.cause?.code;
  return new MillraceError('MR3003', `${host} (${typeof code === 'string' ? code : text})`);
}

/** Half-open connections are noticed within two heartbeats: 10 s each unless the URL says otherwise. */
function prepare(url: string): { address: string; host: string } {
  try {
    const parsed = new URL(url);
    if (!parsed.searchParams.has('heartbeat')) parsed.searchParams.set('heartbeat', '10');
    return {
      address: parsed.href,
      host: `${parsed.hostname}:${parsed.port || (parsed.protocol === 'amqps:' ? 5671 : 5672)}`,
    };
  } catch {
    throw new MillraceError('MR2001', 'AMQP_URL is not a URL such as amqp://user:password@host:5672/vhost');
  }
}
