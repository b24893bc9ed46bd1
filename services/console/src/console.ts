import { messageOf } from '@millrace/core';
import type { Platform, Service } from '@millrace/runtime';
import { type App, buildApp, type ConsoleParts } from './app.ts';
import type { ConsoleConfig } from './config.ts';

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]', '::1'];

/** The names under which requests are taken; undefined: any. */
export function hostsOf({ host, names }: Pick<ConsoleConfig, 'host' | 'names'>): readonly string[] | undefined {
  if (names !== undefined) return [...LOOPBACK, ...names.split(',').map((name) => name.trim())];
  return LOOPBACK.includes(host) ? LOOPBACK : undefined;
}

/** Serves the API and the page. */
export class Console implements Service {
  readonly name = 'console';
  readonly #platform: Platform;
  readonly #config: ConsoleConfig;
  readonly #parts: ConsoleParts;
  #app: App | undefined;

  constructor(platform: Platform, config: ConsoleConfig, parts: ConsoleParts) {
    this.#platform = platform;
    this.#config = config;
    this.#parts = parts;
  }

  /** Where it listens, for example `http://localhost:4400`; undefined while it does not. */
  get url(): string | undefined {
    const address = this.#app?.addresses()[0];
    if (!address || typeof address === 'string') return undefined;
    return `http://${LOOPBACK.includes(address.address) ? 'localhost' : address.address}:${address.port}`;
  }

  /** The app, whether it listens or not: for callers in this process. */
  async app(): Promise<App> {
    this.#app ??= await buildApp({
      ...this.#parts,
      notReady: () => (this.#platform.events.connected() ? [] : ['no connection to the event broker']),
      hosts: hostsOf(this.#config),
    });
    return this.#app;
  }

  async start(): Promise<void> {
    const app = await this.app();
    if (app.server.listening) return;
    try {
      await app.listen({ host: this.#config.host, port: this.#config.port });
    } catch (error) {
      this.#app = undefined;
      await app.close();
      throw error;
    }
    this.#platform.log.info({ url: this.url }, 'console listens');
  }

  async stop(): Promise<void> {
    const app = this.#app;
    this.#app = undefined;
    await app?.close().catch((error: unknown) => this.#platform.log.warn({ error: messageOf(error) }, 'console did not stop cleanly'));
  }

  ready(): readonly string[] {
    return [
      ...(this.#app?.server.listening ? [] : ['not listening']),
      ...(this.#platform.events.connected() ? [] : ['no connection to the event broker']),
    ];
  }
}
