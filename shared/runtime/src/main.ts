import { MillraceError } from '@millrace/core';
import { checkMigrated, type MigrationSet } from '@millrace/postgres';
import { configure, type Declared } from './configure.ts';
import { describeError } from './describe-error.ts';
import { type HealthServer, openHealth } from './health.ts';
import { missingUrls, type Needs, type OpenPlatform, openPlatform } from './open-platform.ts';
import type { Platform, Service } from './platform.ts';
import { supervise } from './supervise.ts';
import { systemTime } from './system-time.ts';
import { startMetrics } from './telemetry/metrics.ts';
import { VERSION } from './version.ts';

export interface MainOptions {
  /** What the service uses. Default: by its name. */
  readonly needs?: Needs;
  /** Schemas that must be up to date before the service starts: MR3009, MR3010, MR3014. */
  readonly migrations?: readonly MigrationSet[];
}

const NEEDS: Readonly<Record<string, Needs>> = {
  clock: { database: false, work: false, jobs: false },
  audit: { work: false, jobs: false },
  console: { work: false, jobs: false },
};

/**
 * A service as a process of its own, on servers: options, platform, schema check, health server, start; SIGTERM and
 * SIGINT end it with 0 within MILLRACE_GRACE, a second signal with 1 at once. Anything that goes wrong before it runs is
 * printed with its fix and ends it with 1, and so does an error that nobody caught. Never returns before the end.
 */
export async function main<Config extends object>(
  name: string,
  wire: (platform: Platform, config: Config) => Service,
  declared: Declared<NoInfer<Config>>,
  options: MainOptions = {},
): Promise<void> {
  process.on('uncaughtException', (error, origin) => fail(error, origin));
  // Nothing has begun. Process 1 of a container is not ended by a signal that it does not handle.
  const leave = () => process.exit(0);
  process.on('SIGTERM', leave).on('SIGINT', leave);
  let platform: OpenPlatform | undefined;
  let health: HealthServer | undefined;
  let clean = false;
  try {
    const needs = options.needs ?? NEEDS[name] ?? {};
    const { platform: config, services } = await configure({ env: process.env, directory: process.cwd(), services: { [name]: declared } });
    const missing = missingUrls(config, needs);
    if (missing.length > 0)
      throw new MillraceError(
        'MR2001',
        `${missing.join(', ')} not set: a ${name} of its own needs servers; without any, run \`millrace dev\``,
      );
    const open = await openPlatform({ service: name, needs, config });
    platform = open;
    await startMetrics();
    if (options.migrations) await checkMigrated(open.database, options.migrations);
    const service = wire(open, services[name] as Config);
    let reasons: () => readonly string[] = () => ['starting'];
    if (config.healthPort > 0) health = await openHealth({ host: config.healthHost, port: config.healthPort, reasons: () => reasons() });
    process.off('SIGTERM', leave).off('SIGINT', leave);
    const supervision = supervise({
      services: [service],
      time: systemTime,
      log: open.log,
      grace: config.grace,
      signals: process,
      exit: (code) => process.exit(code),
      started: () => open.log.info({ version: VERSION, jobs: [...open.jobs.keys()] }, `${name} started`),
    });
    reasons = supervision.ready;
    clean = await supervision.ended;
    open.log.info(`${name} stopped`);
  } catch (error) {
    process.stderr.write(`${describeError(error)}\n`);
  }
  await health?.close();
  await platform?.close().catch((error: unknown) => process.stderr.write(`${describeError(error)}\n`));
  // Explicit, because a pool in the user's code would keep the process alive.
  process.exit(clean ? 0 : 1);
}

/** Unhandled rejections arrive here too: nobody knows what state they leave behind, so the process ends and is started anew. */
function fail(error: unknown, origin: string): void {
  process.stderr.write(`${origin}: ${describeError(error)}\n`);
  process.exit(1);
}
