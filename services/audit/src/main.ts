import { main } from '@millrace/runtime';
import { auditOptions } from './config.ts';
import { wireAudit } from './wiring.ts';

await main('audit', wireAudit, auditOptions, { migrations: [{ schema: 'audit', source: new URL('../migrations', import.meta.url) }] });
