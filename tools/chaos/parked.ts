import { PARKED_QUEUE } from '@millrace/core';
import { connectRabbit } from '@millrace/messaging';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from 'nats';
import type { Site } from './site.ts';

/** How many messages each broker holds that somebody has set aside. Rejects while one is away. */
export async function parkedAt({ servers: { rabbit, nats } }: Site): Promise<{ readonly work: number; readonly events: number }> {
  const work = await connectRabbit({ url: rabbit.url });
  const queue = await work.inspect(PARKED_QUEUE).finally(() => work.close());
  const connection = await connect({ servers: new URL(nats.url).host, reconnect: false, timeout: 2_000 });
  try {
    const manager = await jetstreamManager(connection);
    const stream = await manager.streams.info('MILLRACE_PARKED').catch(() => undefined);
    return { work: queue?.ready ?? 0, events: stream?.state.messages ?? 0 };
  } finally {
    await connection.close();
  }
}
