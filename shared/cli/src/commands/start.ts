import { EXIT } from '../exit-codes.ts';
import type { Output } from '../output.ts';
import { usage } from '../usage.ts';

/** Each module runs until the process is asked to end. */
const MAINS: Readonly<Record<string, () => Promise<unknown>>> = {
  clock: () => import('../../../../services/clock/src/main.ts'),
  planner: () => import('../../../../services/planner/src/main.ts'),
  processor: () => import('../../../../services/processor/src/main.ts'),
  audit: () => import('../../../../services/audit/src/main.ts'),
  console: () => import('../../../../services/console/src/main.ts'),
};

export async function start(output: Output, service: string): Promise<number> {
  if (service === 'all') return startEverything(output);
  const run = MAINS[service];
  if (!run) throw usage(`"${service}" is no service; there are ${Object.keys(MAINS).join(', ')} and all`);
  await run();
  return EXIT.ok;
}

async function startEverything(output: Output): Promise<number> {
  const [
    { startMetrics, supervise, systemTime },
    { checkMigrated },
    { wireConsole },
    { compose },
    { localConfig, openLocal },
    { migrationSets },
  ] = await Promise.all([
    import('@millrace/runtime'),
    import('@millrace/postgres'),
    import('@millrace/console'),
    import('../compose.ts'),
    import('../open-local.ts'),
    import('../migrations.ts'),
  ]);
  const config = await localConfig('info');
  const platform = await openLocal(config, 'all', {});
  try {
    await startMetrics();
    await checkMigrated(platform.database, migrationSets);
    const web = wireConsole(platform, config.console);
    const services = [
      ...(await compose(platform, { scheduled: true, firstTick: 'next', alone: config.mode === 'embedded', settings: config.services })),
      web,
    ];
    const { ended } = supervise({
      services,
      time: systemTime,
      log: platform.log,
      grace: config.platform.grace,
      signals: process,
      exit: (code) => process.exit(code),
      started: () => {
        platform.announce(web.url ?? '');
        output.note(`All services run. Console: ${web.url ?? ''}`);
      },
    });
    return (await ended) ? EXIT.ok : EXIT.error;
  } finally {
    await platform.close();
  }
}
