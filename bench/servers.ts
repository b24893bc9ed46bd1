import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { startNats, startPostgres, startRabbit, type TestServer } from '@millrace/testing';
import { startDockerServer } from '../shared/testing/src/docker-server.ts';
import { startLocalServer } from '../shared/testing/src/local-server.ts';
import type { ServerRecipe } from '../shared/testing/src/server.ts';
import type { Processes } from './cost.ts';

export interface Servers {
  readonly rabbit: TestServer;
  readonly nats: TestServer;
  readonly postgres: TestServer;
  readonly redis: TestServer;
}

/** Off while it measures: see `statements` in bench.ts. */
const STATISTICS = {
  shared_preload_libraries: 'pg_stat_statements',
  'pg_stat_statements.track': process.env['BENCH_STATEMENTS'] ? 'top' : 'none',
};

/** Private servers with normal durability: PostgreSQL flushes every commit, Redis appends to its file and flushes it every second. */
export async function startServers(): Promise<Servers & { stop(): Promise<void> }> {
  const [rabbit, nats, postgres, redis] = await Promise.all([
    startRabbit(),
    startNats(),
    startPostgres({ durable: true, settings: STATISTICS }),
    startRedis(),
  ]);
  const stop = async () => {
    await Promise.all([rabbit, nats, postgres, redis].map((server) => server.stop()));
  };
  return { rabbit, nats, postgres, redis, stop };
}

/** Their processes, as far as they run on this machine and not in a container. */
export function serverProcesses(servers: Servers, used: readonly (keyof Servers)[]): Processes {
  return Object.fromEntries(used.map((name) => [name, servers[name].pid === undefined ? [] : [servers[name].pid]]));
}

const REDIS: ServerRecipe = {
  name: 'redis',
  url: (port) => `redis://127.0.0.1:${port}`,
  hello: Buffer.from('PING\r\n'),
  welcomes: (answer) => answer.toString('latin1').startsWith('+PONG'),
  binary: () => ['/usr/bin/redis-server', '/usr/local/bin/redis-server'].find(existsSync),
  local: ({ port, directory }) => ({
    // BullMQ's documents ask for the append-only file and for noeviction.
    args: ['--port', String(port), '--bind', '127.0.0.1', '--dir', join(directory, 'data'), '--save', '', ...DURABLE],
    stopSignal: 'SIGTERM',
    data: join(directory, 'data'),
  }),
  docker: { image: 'redis:7', port: 6379, options: [], command: ['redis-server', '--save', '', '--appendonly', 'yes'] },
};
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'everysec', '--maxmemory-policy', 'noeviction'];

async function startRedis(): Promise<TestServer> {
  if (!REDIS.binary() && existsSync('/etc/debian_version') && process.getuid?.() === 0) installRedis();
  const binary = REDIS.binary();
  return binary ? startLocalServer(REDIS, binary) : startDockerServer(REDIS);
}

function installRedis(): void {
  process.stderr.write('installing redis-server for the benchmark\n');
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  execFileSync('apt-get', ['update', '-q'], { env, stdio: 'ignore' });
  execFileSync('apt-get', ['install', '-y', '-q', '--no-install-recommends', 'redis-server'], { env, stdio: 'ignore' });
}
