import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type HealthServer, openHealth } from './health.ts';
import { VERSION } from './version.ts';

let health: HealthServer;
let reasons: string[];
beforeEach(async () => {
  reasons = [];
  health = await openHealth({ host: '127.0.0.1', port: 0, reasons: () => reasons });
});
afterEach(() => health.close());

const get = (path: string) => fetch(`http://127.0.0.1:${health.port}${path}`);

test('readiness follows the reasons against it, and being alive does not', async () => {
  expect((await get('/readyz')).status).toBe(200);
  reasons.push('the broker is away');
  const refused = await get('/readyz');
  expect([refused.status, await refused.json()]).toEqual([503, { status: 'not ready', reasons: ['the broker is away'] }]);
  expect((await get('/livez')).status).toBe(200);
  expect((await get('/other')).status).toBe(404);
});

test('metrics say what runs, with the version of the package', async () => {
  expect(await (await get('/metrics')).text()).toContain(`millrace_build_info{version="${VERSION}"`);
  expect(JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version).toBe(VERSION);
});

test('a port that is taken is a problem of the configuration', async () => {
  await expect(openHealth({ host: '127.0.0.1', port: health.port, reasons: () => [] })).rejects.toMatchObject({ code: 'MR2001' });
});
