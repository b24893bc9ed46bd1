export { type AuditConfig, auditDefaults } from './config.ts';
export { wireAudit } from './wiring.ts';
