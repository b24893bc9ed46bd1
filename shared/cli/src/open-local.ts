import type { ConsoleConfig } from '@millrace/console';
import { configure, type Mode, modeOf, type Needs, type OpenPlatform, openPlatform, type PlatformConfig } from '@millrace/runtime';
import type { ServiceSettings } from './compose.ts';
import { migrationSets } from './migrations.ts';

export interface LocalConfig {
  readonly mode: Mode;
  readonly platform: PlatformConfig;
  readonly console: ConsoleConfig;
  /** Settings of the services that `compose` makes. */
  readonly services: ServiceSettings;
  /** Somebody chose the port. */
  readonly portChosen: boolean;
}

/** What environment and configuration file say for a command that runs parts of Millrace in this process. */
export async function localConfig(logLevel: 'info' | 'warn', needs: Needs = {}): Promise<LocalConfig> {
  const [{ consoleOptions, consoleDefaults }, { auditOptions }, { plannerOptions }, { processorOptions }, { clockOptions }] =
    await Promise.all([
      import('@millrace/console'),
      import('@millrace/audit'),
      import('@millrace/planner'),
      import('@millrace/processor'),
      import('@millrace/clock'),
    ]);
  const { platform, services } = await configure({
    env: process.env,
    directory: process.cwd(),
    defaults: { logLevel },
    services: { console: consoleOptions, audit: auditOptions, planner: plannerOptions, processor: processorOptions, clock: clockOptions },
  });
  const settings = services['console'] as unknown as ConsoleConfig;
  return {
    mode: modeOf(platform, needs),
    platform,
    console: settings,
    services: services as unknown as ServiceSettings,
    portChosen: Boolean(process.env['MILLRACE_HTTP_PORT']) || settings.port !== consoleDefaults.port,
  };
}

/** Connected; an embedded database is brought up to date. */
export function openLocal(config: LocalConfig, service: string, needs: Needs): Promise<OpenPlatform> {
  return openPlatform({ service, needs, config: config.platform, migrations: migrationSets });
}
