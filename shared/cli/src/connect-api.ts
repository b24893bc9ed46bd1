import type { Service } from '@millrace/runtime';
import { apiOver, type ConsoleApi, httpApi } from './console-api.ts';

export type { ConsoleApi } from './console-api.ts';

export interface ConnectOptions {
  /** Runs may be started: an embedded installation without a running `millrace dev` then works in this process. Default false. */
  readonly work?: boolean;
  /** Definitions are asked for: load them when no planner of another process tells them. Default: as `work`. */
  readonly jobs?: boolean;
  readonly note?: (text: string) => void;
}

/** `works`: this process does the work itself and must live until it is done. */
export type ConnectedApi = ConsoleApi & { readonly works: boolean };

/** MILLRACE_URL, or the `millrace dev` of this folder, or the console inside this process over its own connections. */
export async function connectApi(options: ConnectOptions = {}): Promise<ConnectedApi> {
  const { env } = process;
  if (env['MILLRACE_URL']) return { ...httpApi(env['MILLRACE_URL']), works: false };
  const { localConfig, openLocal } = await import('./open-local.ts');
  const needs = { work: false, jobs: false };
  const config = await localConfig('warn', needs);
  const embedded = config.mode === 'embedded';
  if (embedded) {
    const { readLock } = await import('@millrace/postgres');
    const url = readLock(config.platform.data)?.url;
    if (url) return { ...httpApi(url), works: false };
  }
  const work = embedded && options.work === true;
  const jobs = embedded && (work || options.jobs === true);
  const platform = await openLocal(config, 'cli', work ? {} : { ...needs, jobs });
  const started: Service[] = [];
  const close = async () => {
    for (const service of started.reverse()) await service.stop();
    await platform.close();
  };
  try {
    const { wireConsole } = await import('@millrace/console');
    const web = wireConsole(platform, config.console);
    started.push(web);
    if (work) {
      const { compose } = await import('./compose.ts');
      options.note?.('No `millrace dev` runs here: doing the work in this process.');
      for (const service of await compose(platform, { scheduled: false, firstTick: 'next', alone: true, settings: config.services })) {
        started.push(service);
        await service.start();
      }
    }
    if (jobs) {
      const { JOBS_BUCKET } = await import('@millrace/core');
      for (const { manifest } of platform.jobs.values())
        await platform.events.bucket(JOBS_BUCKET).put(manifest.name, JSON.stringify(manifest));
    }
    const app = await web.app();
    return {
      works: work,
      ...apiOver(
        'this process',
        async (method, path, body) => {
          const reply = await app.inject({
            method,
            url: path,
            headers: { host: 'localhost', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
            ...(body === undefined ? {} : { payload: body }),
          });
          return { status: reply.statusCode, text: reply.body };
        },
        close,
      ),
    };
  } catch (error) {
    await close();
    throw error;
  }
}
