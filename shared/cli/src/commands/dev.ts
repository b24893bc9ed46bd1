import { setTimeout as delay } from 'node:timers/promises';
import type { Console } from '@millrace/console';
import { codeOf } from '@millrace/core';
import { migrate, now } from '@millrace/postgres';
import { type Platform, type Service, startMetrics } from '@millrace/runtime';
import { compose, startAll, stopAll } from '../compose.ts';
import { apiOver, type ConsoleApi, type RunJson, runPath } from '../console-api.ts';
import { EXIT, worstExitCode } from '../exit-codes.ts';
import { migrationSets } from '../migrations.ts';
import { Once } from '../once.ts';
import { type LocalConfig, localConfig, openLocal } from '../open-local.ts';
import { clean, number, type Output } from '../output.ts';
import { Progress } from '../progress.ts';
import { reportOf } from '../run-report.ts';

const POLL_MS = 250;
/** Ports tried when the usual one is taken and none was asked for. */
const PORTS = 20;

export async function dev(output: Output, options: { once?: boolean }): Promise<number> {
  // Jobs may read it, so it is set before they are loaded.
  process.env['MILLRACE_ENV'] ??= 'dev';
  const config = await localConfig('warn');
  const embedded = config.mode === 'embedded';
  const platform = await openLocal(config, 'dev', {});
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const running: Service[] = [];
  try {
    await startMetrics();
    await migrate(platform.database, migrationSets);
    // The planner and --once must mean the same tick by "the latest", also when a newer one comes due while the services start.
    const started = await now(platform.database);
    const services = await compose(platform, { scheduled: true, firstTick: started, alone: embedded, settings: config.services });
    const listening = await listen(platform, config);
    running.push(...services, listening);
    const api = await apiOf(listening);
    const before = new Set((await recent(api)).filter((run) => run.state === 'closed').map(idOf));
    const reported = new Set<string>();
    const once = options.once
      ? new Once(
          [...platform.jobs.values()].map((job) => job.manifest),
          platform.database,
          started,
        )
      : undefined;
    await startAll(services);
    const url = listening.url ?? '';
    platform.announce(url);
    output.note(`Millrace runs ${number(platform.jobs.size)} job(s)${embedded ? ', embedded' : ''}. Dashboard: ${url}`);
    const progress = new Progress(options.once ? 2_000 : 10_000);
    const report = async (run: RunJson): Promise<void> => {
      reported.add(idOf(run));
      progress.clear();
      const full = await api.get<RunJson>(runPath(run.runId));
      output.object(full, () => reportOf(full));
    };
    const reportClosed = async (runs: readonly RunJson[]): Promise<void> => {
      for (const run of [...runs].reverse())
        if (run.state === 'closed' && !before.has(idOf(run)) && !reported.has(idOf(run))) await report(run);
    };
    while (!stop.signal.aborted) {
      const runs = await recent(api);
      await reportClosed(runs);
      progress.show(runs.filter((run) => run.state !== 'closed'));
      const finished = await once?.finished((runId) => findRun(api, runId));
      if (finished) {
        progress.clear();
        // The last run may have closed since the look above.
        await reportClosed(await recent(api));
        for (const run of finished.filter((one) => !reported.has(idOf(one)))) {
          output.note(`${clean(run.runId)} ran before, and a tick runs once; "millrace run ${run.job}" starts another run.`);
          await report(run);
        }
        if (finished.length === 0) output.note('Nothing ran: no job has a schedule whose latest tick is to be run.');
        return worstExitCode(finished.map((run) => run.verdict));
      }
      await delay(POLL_MS, undefined, { signal: stop.signal }).catch(() => undefined);
    }
    progress.clear();
    output.note('Stopping; what runs is finished first.');
    return EXIT.ok;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    await stopAll(running, config.platform.grace);
    await platform.close();
  }
}

function idOf(run: RunJson): string {
  return `${run.runId} ${run.generation}`;
}

async function recent(api: ConsoleApi): Promise<readonly RunJson[]> {
  return (await api.get<{ runs: readonly RunJson[] }>('/v1/runs?limit=50')).runs;
}

async function findRun(api: ConsoleApi, runId: string): Promise<RunJson | undefined> {
  return api.get<RunJson>(runPath(runId)).catch((error: unknown) => {
    if (codeOf(error) === 'MR2005') return undefined;
    throw error;
  });
}

async function apiOf(web: Console): Promise<ConsoleApi> {
  const app = await web.app();
  return apiOver(
    'this process',
    async (method, path) => {
      const reply = await app.inject({ method, url: path, headers: { host: 'localhost' } });
      return { status: reply.statusCode, text: reply.body };
    },
    async () => undefined,
  );
}

async function listen(platform: Platform, { console: asked, portChosen }: LocalConfig): Promise<Console> {
  const { wireConsole } = await import('@millrace/console');
  for (let port = asked.port; ; port++) {
    const web = wireConsole(platform, { ...asked, port });
    try {
      await web.start();
      return web;
    } catch (error) {
      if ((error as { code?: string }).code !== 'EADDRINUSE' || portChosen || port >= asked.port + PORTS) throw error;
    }
  }
}
