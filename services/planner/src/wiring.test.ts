import { expect, test } from '@jest/globals';
import { openMemoryBrokers } from '@millrace/messaging';
import type { Platform } from '@millrace/runtime';
import { wirePlanner } from './wiring.ts';

test('the container resolves the planner: no binding is missing', () => {
  const database = { kind: 'pglite' } as Platform['database'];
  const service = wirePlanner({ ...openMemoryBrokers(), database, jobs: new Map(), time: { now: () => 0 } } as unknown as Platform);
  expect(service.name).toBe('planner');
  expect(service.ready()).toContain('not started');
});
