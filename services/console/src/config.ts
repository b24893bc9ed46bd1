import type { Milliseconds } from '@millrace/core';
import { option, retentionOptions } from '@millrace/runtime';

/** What can be set about a console. */
export interface ConsoleConfig {
  /** Address to listen on. Default 127.0.0.1: only this machine. The API has no log-in, put a proxy with one in front before opening it. */
  readonly host: string;
  /** Port to listen on; 0 takes a free one. Default 4400. */
  readonly port: number;
  /**
   * Host names under which it may be asked, separated by commas, besides those of this machine: a page of another site could otherwise start
   * runs under a name that it lets lead here. Default: any name when it listens to others, none when it does not.
   */
  readonly names?: string | undefined;
  /** How long inboxes are kept; 0: for ever. Older runs cannot be redriven, and their inbox is not audited. Default 30 d. */
  readonly inboxRetention: Milliseconds;
  /** Where Jaeger's pages are, for links to the traces of runs. Default: no links. */
  readonly jaegerUrl?: string | undefined;
}

export const consoleDefaults: ConsoleConfig = { host: '127.0.0.1', port: 4400, inboxRetention: 30 * 86_400_000 };

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
  names: option({
    env: 'MILLRACE_HTTP_NAMES',
    kind: 'string',
    description:
      'Host names under which API and dashboard may be asked, besides localhost, separated by commas. Not set: any, unless it listens on localhost only.',
  }),
  inboxRetention: retentionOptions.inboxRetention,
  jaegerUrl: option({
    env: 'MILLRACE_JAEGER_URL',
    kind: 'url',
    description: 'Where people open Jaeger, for example http://localhost:16686: runs then link to their traces.',
  }),
};
