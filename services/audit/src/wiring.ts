import 'reflect-metadata';
import type { Platform, Service } from '@millrace/runtime';
import { Container, type ServiceIdentifier } from 'inversify';
import { PostgresLedgerStore } from './adapters/postgres-ledger-store.ts';
import { Audit } from './audit.ts';
import { type AuditConfig, auditDefaults } from './config.ts';
import type { LedgerStore } from './ledger-store.ts';

const PLATFORM: ServiceIdentifier<Platform> = Symbol('Platform');
const CONFIG: ServiceIdentifier<AuditConfig> = Symbol('AuditConfig');
const STORE: ServiceIdentifier<LedgerStore> = Symbol('LedgerStore');

export function wireAudit(platform: Platform, config: Partial<AuditConfig> = {}): Service {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(PLATFORM).toConstantValue(platform);
  container.bind(CONFIG).toConstantValue({ ...auditDefaults, ...config });
  container.bind(STORE).toResolvedValue(({ database }: Platform) => new PostgresLedgerStore(database), [PLATFORM]);
  container.bind(Audit).toResolvedValue((p: Platform, c: AuditConfig, s: LedgerStore) => new Audit(p, c, s), [PLATFORM, CONFIG, STORE]);
  return container.get(Audit);
}
