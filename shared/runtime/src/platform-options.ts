import { type Option, type Options, option, type ValuesOf } from './options.ts';

/** The options of every process. `docs/options.md` is generated from this table and those of the services. */
export const platformOptions = {
  databaseUrl: option({
    env: 'DATABASE_URL',
    kind: 'url',
    secret: true,
    description: 'PostgreSQL. Set all three URLs, or none of them for embedded mode.',
  }),
  amqpUrl: option({ env: 'AMQP_URL', kind: 'url', secret: true, description: 'RabbitMQ, which carries chunks.' }),
  queueType: option({
    env: 'MILLRACE_QUEUE_TYPE',
    kind: 'string',
    default: 'classic',
    choices: ['classic', 'quorum'],
    description:
      'Of the work queues. classic: chunks are in the memory of one RabbitMQ node, and come again from the plan when it restarts. quorum: for a cluster that must go on without one of its nodes.',
  }),
  natsUrl: option({
    env: 'NATS_URL',
    kind: 'string',
    secret: true,
    description: 'NATS with JetStream, which carries ticks, triggers and facts. Several servers: separate them by commas.',
  }),
  natsInbox: option({
    env: 'MILLRACE_NATS_INBOX',
    kind: 'string',
    default: '_INBOX',
    description: 'Prefix of the NATS subjects on which replies to this process come, where each service may read only its own.',
  }),
  data: option({
    env: 'MILLRACE_DATA',
    kind: 'path',
    default: './.millrace',
    description: 'Data directory of embedded mode. One process at a time uses it.',
  }),
  jobs: option({
    env: 'MILLRACE_JOBS',
    kind: 'path',
    default: './jobs',
    description: 'Job file, or folder that is searched for job.ts, job.js, job.mjs and *.job.*.',
  }),
  logLevel: option({
    env: 'MILLRACE_LOG_LEVEL',
    kind: 'string',
    default: 'info',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'silent'],
    description: 'Least important level that is logged to stderr. `millrace dev` defaults to warn.',
  }),
  healthPort: option({
    env: 'MILLRACE_HEALTH_PORT',
    kind: 'integer',
    default: 0,
    max: 65_535,
    description: 'Port of /livez, /readyz and /metrics; 0 = none.',
  }),
  healthHost: option({
    env: 'MILLRACE_HEALTH_HOST',
    kind: 'string',
    default: '127.0.0.1',
    description: 'Address the health server listens on; in a container 0.0.0.0.',
  }),
  grace: option({
    env: 'MILLRACE_GRACE',
    kind: 'duration',
    default: 25_000,
    description: 'How long running work may take to finish after SIGTERM.',
  }),
} satisfies Options;

export type PlatformConfig = ValuesOf<typeof platformOptions>;

/** One row of docs/options.md. */
export interface OptionRow {
  readonly env: string;
  readonly file: string;
  readonly kind: string;
  readonly default: string;
  readonly description: string;
}

/** The declarations as rows; `section` is the name of the service, which is also their place in the configuration file. */
export function optionRows(options: Readonly<Record<string, unknown>>, section?: string): OptionRow[] {
  return Object.entries(options as Record<string, Option>).map(([name, one]) => ({
    env: one.env + (one.secret ? ` (or ${one.env}_FILE)` : ''),
    file: section ? `${section}.${name}` : name,
    kind: one.choices ? one.choices.join(' | ') : one.kind,
    default: one.default === undefined ? '' : one.kind === 'duration' ? durationText(Number(one.default)) : String(one.default),
    description: one.description,
  }));
}

/** In the largest unit that needs no fraction. */
function durationText(duration: number): string {
  const units = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000 };
  const [unit, size] = Object.entries(units).find(([, length]) => duration > 0 && duration % length === 0) ?? ['ms', 1];
  return `${duration / size}${unit}`;
}
