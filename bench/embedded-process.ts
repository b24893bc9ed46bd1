// Millrace embedded, told by IPC which runs to start.
import { randomUUID } from 'node:crypto';
import { done, manualTick, RunClosed, runIdOf, Trigger } from '@millrace/core';
import { compose, startAll, stopAll } from '../shared/cli/src/compose.ts';
import { localConfig, openLocal } from '../shared/cli/src/open-local.ts';
import { TABLE } from './workload.ts';

const config = await localConfig('warn');
const platform = await openLocal(config, 'bench', {});
const services = await compose(platform, { scheduled: true, firstTick: 'next', alone: true, settings: config.services });
await startAll(services);
const waiting = new Set<string>();
await platform.events.subscribe('millrace.facts.run.closed.>', { durable: 'bench' }, async (deliveries) =>
  deliveries.map((delivery) => {
    const read = RunClosed.read(delivery);
    // A fact may come twice.
    if (read.ok && waiting.delete(read.message.data.runId)) process.send?.({ kind: 'closed', closed: read.message.data });
    return done;
  }),
);
process.on('message', async ({ params, job = 'checksum' }: { params: Record<string, unknown>; job?: string }) => {
  await platform.database.query(`truncate ${TABLE}`);
  const now = platform.time.now();
  const key = randomUUID();
  waiting.add(runIdOf(job, manualTick(key)));
  void platform.events.publish([Trigger.envelope({ job, key, requestedAt: now, params }, now)]);
});
process.once('SIGTERM', async () => {
  await stopAll(services, 5_000);
  await platform.close();
  process.exit(0);
});
process.send?.({ kind: 'ready' });
