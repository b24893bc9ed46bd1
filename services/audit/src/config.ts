import type { Milliseconds } from '@millrace/core';
import { retentionOptions } from '@millrace/runtime';

/** What can be set about an audit. */
export interface AuditConfig {
  /** Ledgers of closed runs older than this are deleted; 0 keeps them. Default 90 d. */
  readonly retention: Milliseconds;
}

export const auditDefaults: AuditConfig = { retention: 90 * 86_400_000 };

export const auditOptions = { retention: retentionOptions.retention };
