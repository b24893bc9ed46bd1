import { startDockerServer } from './docker-server.ts';
import { ensureServers } from './ensure-servers.ts';
import { startLocalServer } from './local-server.ts';
import { natsRecipe, postgresRecipe, rabbitRecipe } from './recipes.ts';
import type { ServerRecipe, TestServer } from './server.ts';

export interface RabbitOptions {
  /** Further lines of rabbitmq.conf, such as `vm_memory_high_watermark.relative = 0.00001`. */
  readonly config?: readonly string[];
  /** Path of a definitions file: its users and virtual hosts are made, and no default user. */
  readonly definitions?: string;
}

export interface NatsOptions {
  /** Path of a configuration file, for instance with users; what it includes lies beside it. */
  readonly config?: string;
  /** Folder below which the data lie, for servers of this machine. Defaults to the system's temporary folder. */
  readonly folder?: string;
}

export interface PostgresOptions {
  /** True flushes every commit to disk, as in production; for benchmarks. Defaults to false. */
  readonly durable?: boolean;
  /** Server settings, such as `{ wal_level: 'logical' }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Folder below which the data lie, for servers of this machine. Defaults to the system's temporary folder. */
  readonly folder?: string;
}

/** A private RabbitMQ; takes about seven seconds. */
export function startRabbit(options: RabbitOptions = {}): Promise<TestServer> {
  return startServer(rabbitRecipe(options.config, options.definitions));
}

/** A private NATS with JetStream; takes about 0.2 seconds. */
export function startNats(options: NatsOptions = {}): Promise<TestServer> {
  return startServer(natsRecipe(options.config), options.folder);
}

/** A private PostgreSQL; takes about a second. */
export function startPostgres(options: PostgresOptions = {}): Promise<TestServer> {
  return startServer(postgresRecipe(options.settings ?? {}, options.durable ?? false), options.folder);
}

async function startServer(recipe: ServerRecipe, folder?: string): Promise<TestServer> {
  if (!recipe.binary()) await ensureServers((line) => process.stderr.write(`${line}\n`));
  const binary = recipe.binary();
  if (!binary && folder !== undefined) throw new Error(`${recipe.name} in ${folder} needs the server on this machine`);
  return binary ? startLocalServer(recipe, binary, folder) : startDockerServer(recipe);
}
