import 'reflect-metadata';
import type { Platform } from '@millrace/runtime';
import { Container, type ServiceIdentifier } from 'inversify';
import { PostgresBooks } from './adapters/postgres-books.ts';
import { PostgresLedger } from './adapters/postgres-ledger.ts';
import type { Books } from './books.ts';
import { type ConsoleConfig, consoleDefaults } from './config.ts';
import { Console } from './console.ts';
import type { Ledger } from './ledger.ts';
import { BucketRegistry, type Registry } from './registry.ts';

const PLATFORM: ServiceIdentifier<Platform> = Symbol('Platform');
const CONFIG: ServiceIdentifier<ConsoleConfig> = Symbol('ConsoleConfig');
const LEDGER: ServiceIdentifier<Ledger> = Symbol('Ledger');
const BOOKS: ServiceIdentifier<Books> = Symbol('Books');
const REGISTRY: ServiceIdentifier<Registry> = Symbol('Registry');

export function wireConsole(platform: Platform, config: Partial<ConsoleConfig> = {}): Console {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(PLATFORM).toConstantValue(platform);
  container.bind(CONFIG).toConstantValue({ ...consoleDefaults, ...config });
  container.bind(LEDGER).toResolvedValue(({ database }: Platform) => new PostgresLedger(database), [PLATFORM]);
  container
    .bind(BOOKS)
    .toResolvedValue(({ database }: Platform, c: ConsoleConfig) => new PostgresBooks(database, c.inboxRetention), [PLATFORM, CONFIG]);
  container.bind(REGISTRY).toResolvedValue(({ events }: Platform) => new BucketRegistry(events), [PLATFORM]);
  container.bind(Console).toResolvedValue(
    (p: Platform, c: ConsoleConfig, ledger: Ledger, books: Books, registry: Registry) =>
      new Console(p, c, {
        ledger,
        books,
        registry,
        publisher: p.events,
        log: p.log,
        time: p.time,
        random: p.random,
        inboxRetention: c.inboxRetention,
        jaegerUrl: c.jaegerUrl,
        checkParams: (job, params) => void p.jobs.get(job)?.parseParams(params),
      }),
    [PLATFORM, CONFIG, LEDGER, BOOKS, REGISTRY],
  );
  return container.get(Console);
}
