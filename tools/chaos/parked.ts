import { PARKED_QUEUE } from '@millrace/core';
import { connectRabbit } from '@millrace/messaging';
import { withJetStream } from './jet-stream.ts';
import type { Site } from './site.ts';

/** How many messages each broker holds that somebody has set aside. Rejects while one is away. */
export async function parkedAt({ servers: { rabbit, nats } }: Site): Promise<{ readonly work: number; readonly events: number }> {
  const work = await connectRabbit({ url: rabbit.url });
  const queue = await work.inspect(PARKED_QUEUE).finally(() => work.close());
  const stream = await withJetStream(nats, ({ streams }) => streams.info('MILLRACE_PARKED').catch(() => undefined));
  return { work: queue?.ready ?? 0, events: stream?.state.messages ?? 0 };
}
