import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { MillraceError } from '@millrace/core';
import { connectJetStream, connectRabbit, openMemoryBrokers } from '@millrace/messaging';
import { connectPostgres, type MigrationSet, migrate, openPglite } from '@millrace/postgres';
import type { Job } from 'millrace';
import { loadJobs } from './load-jobs.ts';
import { openLog } from './log.ts';
import type { Logger, Platform } from './platform.ts';
import type { PlatformConfig } from './platform-options.ts';
import { systemTime } from './system-time.ts';
import { startTracing } from './telemetry/start-tracing.ts';

/** What a process uses of the platform. Default: everything. */
export interface Needs {
  readonly database?: boolean;
  readonly work?: boolean;
  readonly events?: boolean;
  readonly jobs?: boolean;
}

export interface OpenPlatformOptions {
  /** Name of the process in logs and on the servers. */
  readonly service: string;
  readonly needs?: Needs;
  readonly config: PlatformConfig;
  /** Applied when the embedded database is opened. Servers are migrated by `millrace migrate` only. */
  readonly migrations?: readonly MigrationSet[];
  /** Jobs that the caller has loaded already, in place of those at `config.jobs`. */
  readonly jobs?: ReadonlyMap<string, Job>;
  readonly log?: Logger;
}

export type Mode = 'embedded' | 'servers';

export interface OpenPlatform extends Platform {
  readonly mode: Mode;
  /** Embedded: lets other commands find the API of this process through the lock file of the data directory. */
  announce(url: string): void;
  /** Closes what was opened, last opened first. Twice is fine. */
  close(): Promise<void>;
}

const URLS = { database: ['databaseUrl', 'DATABASE_URL'], work: ['amqpUrl', 'AMQP_URL'], events: ['natsUrl', 'NATS_URL'] } as const;

/** Embedded when no URL is set. Throws MR2001 when some are, and others that are needed are not. */
export function modeOf(config: PlatformConfig, needs: Needs = {}): Mode {
  const all = Object.values(URLS);
  if (all.every(([name]) => config[name] === undefined)) return 'embedded';
  const missing = missingUrls(config, needs);
  if (missing.length > 0) {
    const set = all.filter(([name]) => config[name] !== undefined).map(([, env]) => env);
    throw new MillraceError(
      'MR2001',
      `${set.join(' and ')} set, but ${missing.join(' and ')} missing; set all of them, or none for embedded mode`,
    );
  }
  return 'servers';
}

/** The variables that a process with these needs lacks to run on servers. */
export function missingUrls(config: PlatformConfig, needs: Needs = {}): string[] {
  return (Object.keys(URLS) as (keyof typeof URLS)[])
    .filter((need) => needs[need] !== false && config[URLS[need][0]] === undefined)
    .map((need) => URLS[need][1]);
}

/**
 * Connects to the servers, or opens the embedded database and brokers in memory. Jobs are loaded first, as they fail
 * most often. Throws MR2001–MR2003 and MR3001–MR3008, with nothing left open.
 */
export async function openPlatform({
  service,
  needs = {},
  config,
  migrations = [],
  jobs,
  log,
}: OpenPlatformOptions): Promise<OpenPlatform> {
  const mode = modeOf(config, needs);
  const instance = `${hostname()}-${process.pid}-${randomBytes(2).toString('hex')}`;
  const logger = log ?? openLog(service, instance, config.logLevel);
  // Before the jobs, so that instrumented libraries in them find the SDK.
  const tracing = await startTracing(service, instance, logger);
  try {
    const known = jobs ?? (needs.jobs === false ? new Map<string, Job>() : await loadJobs(config.jobs));
    const opened =
      mode === 'embedded' ? await openEmbedded(config, needs, migrations) : await connectServers(service, config, needs, logger);
    const { database, work, events, announce = () => {} } = opened;
    let closed: Promise<void> | undefined;
    return {
      mode,
      instance,
      time: systemTime,
      random: Math.random,
      log: logger,
      jobs: known,
      ...(jobs || needs.jobs === false ? {} : { jobsPath: config.jobs }),
      database: database ?? unneeded('database'),
      work: work ?? unneeded('work'),
      events: events ?? unneeded('events'),
      announce,
      close: () => (closed ??= closeAll([database, events, work]).finally(() => tracing?.stop())),
    };
  } catch (error) {
    await tracing?.stop();
    throw error;
  }
}

type Opened = Partial<Pick<Platform, 'database' | 'work' | 'events'>> & { readonly announce?: (url: string) => void };

async function openEmbedded({ data }: PlatformConfig, needs: Needs, migrations: readonly MigrationSet[]): Promise<Opened> {
  const brokers = openMemoryBrokers(systemTime);
  if (needs.database === false) return brokers;
  const database = await openPglite({ directory: data });
  try {
    await migrate(database, migrations);
  } catch (error) {
    await closeAll([database]);
    throw error;
  }
  return { ...brokers, database, announce: (url) => database.lock?.publish(url) };
}

async function connectServers(
  service: string,
  { databaseUrl, amqpUrl, queueType, natsUrl, natsInbox }: PlatformConfig,
  needs: Needs,
  log: Logger,
): Promise<Opened> {
  const results = await Promise.allSettled([
    needs.database !== false && databaseUrl ? connectPostgres({ url: databaseUrl, applicationName: `millrace-${service}` }) : undefined,
    needs.work !== false && amqpUrl ? connectRabbit({ url: amqpUrl, queueType, log }) : undefined,
    needs.events !== false && natsUrl ? connectJetStream({ url: natsUrl, inbox: natsInbox, log }) : undefined,
  ]);
  const [database, work, events] = results;
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) {
    await closeAll(results.map((result) => (result.status === 'fulfilled' ? result.value : undefined)));
    throw failed.reason;
  }
  return {
    ...(database.status === 'fulfilled' && database.value && { database: database.value }),
    ...(work.status === 'fulfilled' && work.value && { work: work.value }),
    ...(events.status === 'fulfilled' && events.value && { events: events.value }),
  };
}

/** Last first, each in spite of the others' failures; the first failure is thrown at the end. */
async function closeAll(open: readonly ({ close(): Promise<void> } | undefined)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const one of [...open].reverse()) await one?.close().catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

/** Stands for what the process said it does not need: a use of it is a bug. */
function unneeded<T extends object>(name: string): T {
  return new Proxy({} as T, {
    get(_, property) {
      throw new Error(`platform.${name}.${String(property)} is used by a process that does not need "${name}"`);
    },
  });
}
