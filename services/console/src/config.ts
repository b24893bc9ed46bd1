import { option } from '@millrace/runtime';

/** What can be set about a console. */
export interface ConsoleConfig {
  /** Address to listen on. Default 127.0.0.1: only this machine. The API has no log-in, put a proxy with one in front before opening it. */
  readonly host: string;
  /** Port to listen on; 0 takes a free one. Default 4400. */
  readonly port: number;
}

export const consoleDefaults: ConsoleConfig = { host: '127.0.0.1', port: 4400 };

export const consoleOptions = {
  host: option({
    env: 'MILLRACE_HTTP_HOST',
    kind: 'string',
    default: consoleDefaults.host,
    description: 'Address that API and dashboard listen on. There is no log-in: put a proxy with one in front before opening it to others.',
  }),
  port: option({
    env: 'MILLRACE_HTTP_PORT',
    kind: 'integer',
    default: consoleDefaults.port,
    max: 65_535,
    description: 'Port of API and dashboard; 0 takes a free one.',
  }),
};
