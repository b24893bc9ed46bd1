import { connectPostgres, type Database } from '@millrace/postgres';
import { startNats, startPostgres, startRabbit, waitFor } from '@millrace/testing';
import { MillraceProcess, millrace } from './millrace-process.ts';

export interface InstallationOptions {
  /** In the order of `processes`. */
  readonly services: readonly string[];
  /** A module of jobs. */
  readonly jobs: string;
  /** How many there are in it. */
  readonly jobCount: number;
  /** Seconds between heartbeats of RabbitMQ. Default: the server's own. */
  readonly heartbeat?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Installation {
  /** For any other command on the same servers. */
  readonly env: Readonly<Record<string, string>>;
  readonly db: Database;
  readonly processes: readonly MillraceProcess[];
  stop(): Promise<void>;
}

/** Services as separate processes on private, migrated servers, for tests. Resolves once a planner has made all jobs known. */
export async function startInstallation({ services, jobs, jobCount, heartbeat, env: more }: InstallationOptions): Promise<Installation> {
  const [rabbit, nats, postgres] = await Promise.all([startRabbit(), startNats(), startPostgres()]);
  const env = {
    AMQP_URL: heartbeat === undefined ? rabbit.url : `${rabbit.url}?heartbeat=${heartbeat}`,
    NATS_URL: nats.url,
    DATABASE_URL: postgres.url,
    MILLRACE_JOBS: jobs,
    MILLRACE_HTTP_PORT: '0',
    ...more,
  };
  const processes: MillraceProcess[] = [];
  let db: Database | undefined;
  const stop = async () => {
    await Promise.all(processes.map((one) => one.end('SIGKILL')));
    await db?.close();
    await Promise.all([rabbit, nats, postgres].map((server) => server.stop()));
  };
  try {
    const migrated = await millrace(['migrate'], env);
    if (migrated.code !== 0) throw new Error(migrated.stderr);
    const database = (db = await connectPostgres({ url: postgres.url }));
    processes.push(...services.map((service) => new MillraceProcess(['start', service], env)));
    const known = async () => (await database.query('select 1 from planner.jobs')).rows.length === jobCount;
    await waitFor(known, { timeout: 90_000, what: 'the planner to make the jobs known' });
    return { env, db: database, processes, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
