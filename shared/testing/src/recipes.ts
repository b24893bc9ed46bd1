import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';
import { freePort } from './free-port.ts';
import type { ServerRecipe } from './server.ts';

/**
 * RabbitMQ; user and password `guest`, unless a file of `definitions` has others. `config` holds further lines of
 * rabbitmq.conf.
 */
export function rabbitRecipe(config: readonly string[] = [], definitions?: string): ServerRecipe {
  return {
    name: 'rabbit',
    url: (port) => `amqp://guest:guest@127.0.0.1:${port}`,
    hello: Buffer.from('AMQP\0\0\x09\x01', 'latin1'),
    // connection.start is a method frame; a refusal repeats the protocol header.
    welcomes: (answer) => answer[0] === 1,
    // Debian's wrapper on the PATH switches to another user; this is the script behind it.
    binary: () => firstFile('/usr/lib/rabbitmq/bin/rabbitmq-server'),
    async local({ port, directory }) {
      const epmd = await freePort();
      const conf = join(directory, 'rabbitmq.conf');
      const lines = ['disk_free_limit.absolute = 50MB', 'log.console.level = warning', 'log.file = false', ...config];
      if (definitions) lines.push(`load_definitions = ${definitions}`);
      writeFileSync(conf, `${lines.join('\n')}\n`);
      writeFileSync(join(directory, 'plugins'), '[].\n');
      return {
        args: [],
        env: {
          RABBITMQ_NODENAME: `millrace${port}@localhost`,
          RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
          RABBITMQ_NODE_PORT: String(port),
          RABBITMQ_DIST_PORT: String(await freePort()),
          ERL_EPMD_PORT: String(epmd),
          ERL_EPMD_ADDRESS: '127.0.0.1',
          RABBITMQ_MNESIA_BASE: join(directory, 'data'),
          RABBITMQ_LOG_BASE: join(directory, 'logs'),
          RABBITMQ_CONFIG_FILE: conf,
          RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'plugins'),
          // Schedulers that spin while they wait take the processor from the tests.
          RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none',
        },
        stopSignal: 'SIGTERM',
        data: join(directory, 'data'),
        control: '/usr/lib/rabbitmq/bin/rabbitmqctl',
        // A node without an epmd starts one that outlives it: this one is ours to end.
        companion: { command: 'epmd', args: ['-port', String(epmd), '-address', '127.0.0.1'], port: epmd },
      };
    },
    docker: {
      image: 'rabbitmq:4-management',
      port: 5672,
      options: [
        ...(config.length === 0 ? [] : ['-e', `RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=${config.map(asErlangArgument).join(' ')}`]),
        ...(definitions ? mounted(definitions) : []),
      ],
      command: [],
      control: 'rabbitmqctl',
    },
  };
}

/** A definitions file in a container, with the line of configuration that names it. */
function mounted(definitions: string): string[] {
  const conf = join(dirname(definitions), 'load-definitions.conf');
  writeFileSync(conf, 'load_definitions = /definitions.json\n');
  return ['-v', `${definitions}:/definitions.json:ro`, '-v', `${conf}:/etc/rabbitmq/conf.d/90-definitions.conf:ro`];
}

/** In a container the settings travel as arguments of the `rabbit` application; only numbers and words can. */
function asErlangArgument(line: string): string {
  const [key = '', value = ''] = line.split('=').map((part) => part.trim());
  return `-rabbit ${key.replaceAll('.', '_')} ${value}`;
}

/** NATS with JetStream on disk; `config` names a configuration file. */
export function natsRecipe(config?: string): ServerRecipe {
  return {
    name: 'nats',
    url: (port) => `nats://127.0.0.1:${port}`,
    welcomes: (answer) => answer.toString('latin1').startsWith('INFO ') && answer.includes('"jetstream":true'),
    binary: () => onPath('nats-server'),
    local: ({ port, directory }) => ({
      args: ['-js', '-sd', join(directory, 'data'), '-a', '127.0.0.1', '-p', String(port), ...(config ? ['-c', config] : [])],
      stopSignal: 'SIGTERM',
      data: join(directory, 'data'),
    }),
    docker: {
      image: 'nats:2',
      port: 4222,
      options: config ? ['-v', `${dirname(config)}:/etc/nats:ro`] : [],
      command: ['-js', '-sd', '/data', ...(config ? ['-c', `/etc/nats/${basename(config)}`] : [])],
    },
  };
}

/** PostgreSQL; user, password and database `postgres`. Not flushed to disk unless `durable`. */
export function postgresRecipe(settings: Readonly<Record<string, string>>, durable: boolean): ServerRecipe {
  const chosen = { ...(durable ? {} : { fsync: 'off', full_page_writes: 'off' }), max_connections: '200', ...settings };
  const options = Object.entries(chosen).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return {
    name: 'postgres',
    url: (port) => `postgres://postgres:postgres@127.0.0.1:${port}/postgres`,
    hello: startupMessage({ user: 'postgres', database: 'postgres' }),
    // R asks for (or waives) the password; E is an error such as "the database system is starting up".
    welcomes: (answer) => answer[0] === 0x52,
    binary: () => newestDebianPostgres() ?? onPath('postgres'),
    local: ({ binary, port, directory }) => {
      const data = join(directory, 'data');
      // PostgreSQL refuses to run as root.
      const user = process.getuid?.() === 0 ? { uid: idOf('-u', 'postgres'), gid: idOf('-g', 'postgres') } : undefined;
      return {
        args: ['-D', data, '-h', '127.0.0.1', '-p', String(port), '-k', directory, ...options],
        ...(user ? { user } : {}),
        stopSignal: 'SIGINT',
        data,
        async prepare() {
          const args = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', ...(durable ? [] : ['--no-sync'])];
          execFileSync(join(binary, '..', 'initdb'), args, { ...user, stdio: ['ignore', 'ignore', 'pipe'], cwd: directory });
        },
      };
    },
    docker: { image: 'postgres:17', port: 5432, options: ['-e', 'POSTGRES_PASSWORD=postgres'], command: ['postgres', ...options] },
  };
}

function startupMessage(parameters: Readonly<Record<string, string>>): Buffer {
  const text = `${Object.entries(parameters).flat().join('\0')}\0\0`;
  const message = Buffer.alloc(8 + text.length);
  message.writeInt32BE(message.length, 0);
  message.writeInt32BE(0x0003_0000, 4);
  message.write(text, 8, 'latin1');
  return message;
}

function newestDebianPostgres(): string | undefined {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  return firstFile(...versions.map((version) => join(root, version, 'bin', 'postgres')));
}

function onPath(program: string): string | undefined {
  return firstFile(
    ...(process.env.PATH ?? '')
      .split(delimiter)
      .concat('/usr/sbin')
      .map((folder) => join(folder, program)),
  );
}

function firstFile(...paths: readonly string[]): string | undefined {
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const idOf = (option: '-u' | '-g', user: string) => Number(execFileSync('id', [option, user], { encoding: 'utf8' }));
