import { main } from '@millrace/runtime';
import { auditDefaults } from './config.ts';
import { wireAudit } from './wiring.ts';

await main('audit', wireAudit, auditDefaults, { migrations: [{ schema: 'audit', source: new URL('../migrations', import.meta.url) }] });
