import { expect, test } from '@jest/globals';
import type { Database } from '@millrace/postgres';
import { sampleJob, samplePlatform } from './processor-samples.ts';
import { wireProcessor } from './wiring.ts';

test('the root resolves, and is not ready before it is started', () => {
  const unused = { kind: 'pg' } as Database;
  const service = wireProcessor(samplePlatform(unused, sampleJob({ process: (item) => item, send: () => undefined })));
  expect(service.name).toBe('processor');
  expect(service.ready()).toEqual(['not started']);
});
