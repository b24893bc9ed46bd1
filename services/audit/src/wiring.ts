import 'reflect-metadata';
import type { Platform, Service } from '@millrace/runtime';
import { Container, type ServiceIdentifier } from 'inversify';
import { PostgresLedgerStore } from './adapters/postgres-ledger-store.ts';
import { Audit } from './audit.ts';
import type { AuditConfig } from './config.ts';
import type { LedgerStore } from './ledger-store.ts';

const PLATFORM: ServiceIdentifier<Platform> = Symbol('Platform');
const STORE: ServiceIdentifier<LedgerStore> = Symbol('LedgerStore');

export function wireAudit(platform: Platform, _config: AuditConfig = {}): Service {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(PLATFORM).toConstantValue(platform);
  container.bind(STORE).toResolvedValue(({ database }: Platform) => new PostgresLedgerStore(database), [PLATFORM]);
  container.bind(Audit).toResolvedValue((p: Platform, s: LedgerStore) => new Audit(p, s), [PLATFORM, STORE]);
  return container.get(Audit);
}
