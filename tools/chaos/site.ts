import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectPostgres, type Database } from '@millrace/postgres';
import { startNats, startPostgres, startRabbit, startTcpProxy, type TcpProxy, type TestServer } from '@millrace/testing';

export const SERVERS = ['rabbit', 'nats', 'postgres'] as const;
export type ServerName = (typeof SERVERS)[number];

/** Private servers, each behind a proxy that the services use, and a straight way to them that the harness uses. */
export interface Site {
  readonly servers: Readonly<Record<ServerName, TestServer>>;
  readonly proxies: Readonly<Record<ServerName, TcpProxy>>;
  /** For services: through the proxies. */
  readonly env: Readonly<Record<string, string>>;
  /** For commands of the harness: past the proxies. */
  readonly direct: Readonly<Record<string, string>>;
  readonly logs: string;
  /** Opened once the server has been migrated. */
  database(): Promise<Database>;
  /** `keep` leaves the logs where they are. */
  close(keep: boolean): Promise<void>;
}

export async function openSite(): Promise<Site> {
  const started = await Promise.allSettled([startRabbit(), startNats(), startPostgres()]);
  const failed = started.find((one) => one.status === 'rejected');
  if (failed) {
    await Promise.all(started.map((one) => (one.status === 'fulfilled' ? one.value.stop() : undefined)));
    throw failed.reason;
  }
  const [rabbit, nats, postgres] = started.map((one) => (one as PromiseFulfilledResult<TestServer>).value) as [
    TestServer,
    TestServer,
    TestServer,
  ];
  const servers = { rabbit, nats, postgres };
  const proxies = {
    rabbit: await startTcpProxy(rabbit.url),
    nats: await startTcpProxy(nats.url),
    postgres: await startTcpProxy(postgres.url),
  };
  const logs = mkdtempSync(join(tmpdir(), 'millrace-chaos-'));
  const common = { MILLRACE_JOBS: join(import.meta.dirname, 'jobs'), MILLRACE_HTTP_PORT: '0', CHAOS_CALLS: join(logs, 'calls') };
  let database: Promise<Database> | undefined;
  return {
    servers,
    proxies,
    logs,
    env: {
      ...common,
      AMQP_URL: proxies.rabbit.through(rabbit.url),
      NATS_URL: proxies.nats.through(nats.url),
      DATABASE_URL: proxies.postgres.through(postgres.url),
    },
    direct: { ...common, AMQP_URL: rabbit.url, NATS_URL: nats.url, DATABASE_URL: postgres.url },
    database: () => (database ??= connectPostgres({ url: postgres.url, max: 3, applicationName: 'chaos' })),
    async close(keep) {
      await (await database)?.close();
      await Promise.all(SERVERS.map((name) => proxies[name].close()));
      await Promise.all(SERVERS.map((name) => servers[name].stop()));
      if (!keep) rmSync(logs, { recursive: true, force: true });
    },
  };
}
