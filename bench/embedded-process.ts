// Millrace embedded, told by IPC which runs to start.
import { randomUUID } from 'node:crypto';
import { done, RunClosed, Trigger } from '@millrace/core';
import { compose, startAll, stopAll } from '../shared/cli/src/compose.ts';
import { localConfig, openLocal } from '../shared/cli/src/open-local.ts';

const config = await localConfig('warn');
const platform = await openLocal(config, 'bench', {});
const services = await compose(platform, { scheduled: true, firstTick: 'now', alone: true, settings: config.services });
await startAll(services);
await platform.events.subscribe('millrace.facts.run.closed.>', { durable: 'bench' }, async (deliveries) =>
  deliveries.map((delivery) => {
    const read = RunClosed.read(delivery);
    if (read.ok) process.send?.({ kind: 'closed', closed: read.message.data });
    return done;
  }),
);
process.on('message', ({ params, job = 'checksum' }: { params: Record<string, unknown>; job?: string }) => {
  const now = platform.time.now();
  void platform.events.publish([Trigger.envelope({ job, key: randomUUID(), requestedAt: now, params }, now)]);
});
process.once('SIGTERM', async () => {
  await stopAll(services, 5_000);
  await platform.close();
  process.exit(0);
});
process.send?.({ kind: 'ready' });
