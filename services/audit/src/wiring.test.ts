import { expect, test } from '@jest/globals';
import { openMemoryBrokers } from '@millrace/messaging';
import type { Platform } from '@millrace/runtime';
import { wireAudit } from './wiring.ts';

test('the container resolves the audit: no binding is missing', () => {
  const database = { kind: 'pglite' } as Platform['database'];
  const service = wireAudit({ ...openMemoryBrokers(), database, jobs: new Map() } as unknown as Platform);
  expect(service.name).toBe('audit');
  expect(service.ready()).toContain('not started');
});
