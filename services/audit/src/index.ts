export { type AuditConfig, auditDefaults, auditOptions } from './config.ts';
export { wireAudit } from './wiring.ts';
