import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connectPostgres, type Database } from '@millrace/postgres';
import { startNats, startPostgres, startRabbit, startTcpProxy, type TcpProxy, type TestServer } from '@millrace/testing';
import { build } from 'esbuild';
import { mountSmallDisk, ROOM_MIB, type SmallDisk } from './small-disk.ts';

const ROOT = join(import.meta.dirname, '../..');
const run = promisify(execFile);

export const SERVERS = ['rabbit', 'nats', 'postgres'] as const;
export type ServerName = (typeof SERVERS)[number];

/** Private servers, each behind a proxy that the services use, and a straight way to them that the harness uses. */
export interface Site {
  readonly servers: Readonly<Record<ServerName, TestServer>>;
  readonly proxies: Readonly<Record<ServerName, TcpProxy>>;
  /** What these servers write to, when they have disks of their own. */
  readonly disks: Readonly<Partial<Record<ServerName, SmallDisk>>>;
  /** The `millrace` command as it is shipped: built, which starts faster than the sources. */
  readonly program: string;
  /** For services: through the proxies. */
  readonly env: Readonly<Record<string, string>>;
  /** Where the services log, and items that they are called. */
  readonly logs: string;
  readonly calls: string;
  database(): Promise<Database>;
  /** Runs `millrace` past the proxies. Never rejects: the exit code tells. */
  command(...args: readonly string[]): Promise<{ readonly code: number; readonly output: string }>;
  /** `keep` leaves the logs where they are. */
  close(keep: boolean): Promise<void>;
}

export async function openSite({ smallDisks = false }: { readonly smallDisks?: boolean | undefined } = {}): Promise<Site> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-chaos-'));
  // Servers run as other users, and must be able to pass.
  if (smallDisks) chmodSync(folder, 0o755);
  const disks = smallDisks
    ? {
        nats: await mountSmallDisk(join(folder, 'nats'), ROOM_MIB.nats),
        postgres: await mountSmallDisk(join(folder, 'postgres'), ROOM_MIB.postgres),
      }
    : undefined;
  const started = await Promise.allSettled([
    startRabbit(),
    startNats(disks && { folder: disks.nats.path }),
    startPostgres(disks && { folder: disks.postgres.path, settings: { max_wal_size: '128MB' } }),
    buildProgram(folder),
  ]);
  const servers = started.slice(0, 3).flatMap((one) => (one.status === 'fulfilled' ? (one.value as TestServer) : []));
  const failed = started.find((one) => one.status === 'rejected');
  if (failed) {
    await Promise.all(servers.map((server) => server.stop()));
    for (const disk of Object.values(disks ?? {})) await disk.remove();
    throw failed.reason;
  }
  const [rabbit, nats, postgres] = servers as [TestServer, TestServer, TestServer];
  const proxies = {
    rabbit: await startTcpProxy(rabbit.url),
    nats: await startTcpProxy(nats.url),
    postgres: await startTcpProxy(postgres.url),
  };
  const program = join(folder, 'millrace', 'main.js');
  const calls = join(folder, 'calls');
  const common = { MILLRACE_JOBS: join(folder, 'millrace', 'jobs'), MILLRACE_HTTP_PORT: '0', CHAOS_CALLS: calls };
  const direct = { ...common, AMQP_URL: rabbit.url, NATS_URL: nats.url, DATABASE_URL: postgres.url };
  let database: Promise<Database> | undefined;
  return {
    servers: { rabbit, nats, postgres },
    proxies,
    disks: disks ?? {},
    program,
    logs: folder,
    calls,
    env: {
      ...common,
      AMQP_URL: proxies.rabbit.through(rabbit.url),
      NATS_URL: proxies.nats.through(nats.url),
      DATABASE_URL: proxies.postgres.through(postgres.url),
    },
    database: () => (database ??= connectPostgres({ url: postgres.url, max: 3, applicationName: 'chaos' })),
    async command(...args) {
      const env = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...direct };
      return run(process.execPath, [program, ...args], { env, cwd: folder, timeout: 120_000 }).then(
        ({ stdout }) => ({ code: 0, output: stdout }),
        (error) => ({ code: Number(error.code ?? 1), output: `${error.stdout}${error.stderr}` }),
      );
    },
    async close(keep) {
      await (await database?.catch(() => undefined))?.close();
      await Promise.all(SERVERS.map((name) => proxies[name].close()));
      await Promise.all(servers.map((server) => server.stop()));
      for (const disk of Object.values(disks ?? {})) await disk.remove();
      rmSync(keep ? join(folder, 'millrace') : folder, { recursive: true, force: true });
    },
  };
}

/** The command, and the jobs beside it, where they find the SDK that they share with it. */
async function buildProgram(folder: string): Promise<void> {
  const target = join(folder, 'millrace');
  await run(process.execPath, [join(ROOT, 'tools/build.mjs'), join(ROOT, 'shared/cli'), target], { cwd: ROOT });
  await build({
    entryPoints: [join(import.meta.dirname, 'jobs/chaos.job.ts')],
    outfile: join(target, 'jobs/chaos.job.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: ['millrace', 'typebox'],
  });
}
