/** The audit has nothing to set yet. */
export type AuditConfig = Record<never, never>;
export const auditDefaults: AuditConfig = {};
