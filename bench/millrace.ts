import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chunkQueue, done, RunClosed, Trigger } from '@millrace/core';
import { connectJetStream, type EventBroker } from '@millrace/messaging';
import { connectPostgres, migrate } from '@millrace/postgres';
import { waitFor } from '@millrace/testing';
import { connect } from 'amqplib';
import { migrationSets } from '../shared/cli/src/migrations.ts';
import { BUNDLES, type Bundles, bundlesIn, JOBS } from './bundles.ts';
import { Child } from './child.ts';
import type { Contender, Opened } from './contender.ts';
import type { Servers } from './servers.ts';

/** Millrace as clock, planner, processors and audit in processes of their own, bundled as in production; the console, which only reads, stays out. */
export function onServers(processors: number): Contender {
  return {
    name: processors === 1 ? 'millrace' : `millrace-${processors}`,
    label: `Millrace, ${processors} processor${processors === 1 ? '' : 's'}`,
    kind: 'millrace',
    uses: ['rabbit', 'nats', 'postgres'],
    writes: true,
    open: (servers) => openOnServers(servers, processors),
  };
}

/** As clusters of RabbitMQ need it. */
export const onQuorumQueues: Contender = {
  ...onServers(1),
  name: 'millrace-quorum',
  label: 'Millrace, quorum queues',
  open: (servers) => openOnServers(servers, 1, { MILLRACE_QUEUE_TYPE: 'quorum' }),
};

/** `name=folder`: another checkout, built before, to see what a change has brought. */
export function builtElsewhere(text: string): Contender {
  const [name, folder] = text.split('=');
  if (!name || !folder) throw new Error(`--builds ${text}: give name=folder of a checkout whose services are built`);
  return {
    ...onServers(1),
    name,
    label: `Millrace, ${name}`,
    open: (servers) => openOnServers(servers, 1, {}, bundlesIn(resolve(folder))),
  };
}

export interface OpenedOnServers extends Opened {
  readonly children: Readonly<Record<string, readonly Child[]>>;
  /** Triggers a run and waits for its end; resolves with the fact of it. */
  trigger(params: Record<string, unknown>, job?: string): Promise<RunClosed>;
}

export async function openOnServers(
  servers: Servers,
  processors: number,
  extra: Record<string, string> = {},
  bundles: Bundles = BUNDLES,
): Promise<OpenedOnServers> {
  const db = await connectPostgres({ url: servers.postgres.url });
  await migrate(db, migrationSets);
  await db.query(
    'truncate planner.runs, planner.chunks, planner.ticks, audit.runs, audit.generations, audit.chunks, audit.failures, millrace.inbox',
  );
  const { rows } = await db.query<{ job: string }>('select job from planner.jobs');
  await db.close();
  await deleteQueues(
    servers.rabbit.url,
    rows.map(({ job }) => job),
  );
  const env = {
    AMQP_URL: servers.rabbit.url,
    NATS_URL: servers.nats.url,
    DATABASE_URL: servers.postgres.url,
    MILLRACE_JOBS: JOBS,
    MILLRACE_HTTP_PORT: '0',
    ...extra,
  };
  const start = (service: string) => new Child(bundles[service] ?? '', [], env);
  const children: Record<string, Child[]> = {
    clock: [start('clock')],
    planner: [start('planner')],
    processor: Array.from({ length: processors }, () => start('processor')),
    audit: [start('audit')],
  };
  const all = Object.values(children).flat();
  await waitFor(() => all.every(({ output }) => / started"/.test(output)), { timeout: 60_000, what: 'all services' }).catch(
    (error: unknown) => {
      throw new Error(all.map(({ output }) => output).join('\n'), { cause: error });
    },
  );
  const events = await connectJetStream({ url: servers.nats.url });
  const runs = await triggerer(events);
  return {
    processes: Object.fromEntries(Object.entries(children).map(([name, list]) => [name, list.map(({ pid }) => pid)])),
    children,
    trigger: runs.trigger,
    async run(items) {
      expectAll(await runs.trigger({ items }), items);
    },
    async close() {
      await runs.stop();
      await events.close();
      await Promise.all(all.map((child) => child.end()));
    },
  };
}

/** Those of an earlier contender may be of another type. */
async function deleteQueues(url: string, jobs: readonly string[]): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createChannel();
  for (const job of jobs) await channel.deleteQueue(chunkQueue(job));
  await connection.close();
}

/** Triggers runs and waits for their `run.closed`, with nothing but the event broker. */
async function triggerer(events: EventBroker) {
  const waiting = new Map<string, (closed: RunClosed) => void>();
  const subscription = await events.subscribe('millrace.facts.run.closed.>', { durable: `bench-${process.pid}` }, async (deliveries) =>
    deliveries.map((delivery) => {
      const read = RunClosed.read(delivery);
      if (read.ok) waiting.get(read.message.data.runId)?.(read.message.data);
      return done;
    }),
  );
  return {
    stop: () => subscription.drain(),
    async trigger(params: Record<string, unknown>, job = 'checksum'): Promise<RunClosed> {
      const key = randomUUID();
      const closed = new Promise<RunClosed>((resolve) => waiting.set(`${job}@manual:${key}`, resolve));
      await events.publish([Trigger.envelope({ job, key, requestedAt: Date.now(), params }, Date.now())]);
      return closed;
    },
  };
}

/** Millrace in one process with the database in it, on files in a fresh directory. */
export const embedded: Contender = {
  name: 'embedded',
  label: 'Millrace embedded',
  kind: 'millrace',
  uses: [],
  writes: false,
  async open() {
    const data = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
    const child = new Child(fileURLToPath(new URL('./embedded-process.ts', import.meta.url)), [], {
      MILLRACE_DATA: data,
      MILLRACE_JOBS: JOBS,
    });
    await child.hear('ready');
    return {
      processes: { all: [child.pid] },
      async run(items) {
        child.tell({ params: { items } });
        const { closed } = await child.hear('closed');
        expectAll(closed as RunClosed, items);
      },
      async close() {
        await child.end();
        rmSync(data, { recursive: true, force: true });
      },
    };
  },
};

function expectAll({ verdict, counts }: RunClosed, items: number): void {
  if (verdict !== 'succeeded' || counts.applied !== items) throw new Error(`${items} items ended as ${verdict} ${JSON.stringify(counts)}`);
}
