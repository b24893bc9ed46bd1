import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { configure } from './configure.ts';
import { option } from './options.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-configure-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const services = {
  planner: { window: option({ env: 'MILLRACE_PLANNER_WINDOW', kind: 'integer', default: 10, description: '' }), alone: true },
};

test('a service gets its section of the file, its environment, and the settings that cannot be changed', async () => {
  writeFileSync(join(directory, 'millrace.config.json'), JSON.stringify({ jobs: './my-jobs', planner: { window: 20 } }));
  const configured = await configure({ env: {}, directory, services });
  expect(configured.platform.jobs).toBe(join(directory, 'my-jobs'));
  expect(configured.services).toEqual({ planner: { window: 20, alone: true } });
  expect((await configure({ env: { MILLRACE_PLANNER_WINDOW: '30' }, directory, services })).services.planner?.window).toBe(30);
});

test('a configuration file may be a module', async () => {
  writeFileSync(join(directory, 'millrace.config.mjs'), "export default { grace: '3s' };");
  expect((await configure({ env: {}, directory })).platform.grace).toBe(3_000);
});

test('defaults can be replaced, and the environment still wins', async () => {
  expect((await configure({ env: {}, directory, defaults: { logLevel: 'warn' } })).platform.logLevel).toBe('warn');
  expect((await configure({ env: { MILLRACE_LOG_LEVEL: 'debug' }, directory, defaults: { logLevel: 'warn' } })).platform.logLevel).toBe(
    'debug',
  );
});

test('problems of platform, service and file are reported together, misspelt options too', async () => {
  writeFileSync(join(directory, 'millrace.config.json'), JSON.stringify({ job: './jobs', planner: { windows: 20 } }));
  const configured = configure({ env: { MILLRACE_HEALTH_PORT: '-1', MILLRACE_PLANNER_WINDOW: 'x' }, directory, services });
  await expect(configured).rejects.toMatchObject({ code: 'MR2001' });
  for (const problem of [
    /4 problems/,
    /job in millrace.config.json is no option/,
    /windows in planner of millrace.config.json is no option; known are window/,
    /MILLRACE_HEALTH_PORT/,
    /MILLRACE_PLANNER_WINDOW is "x"/,
  ]) {
    await expect(configured).rejects.toThrow(problem);
  }
});

test('a broken file, and a second file, are refused', async () => {
  writeFileSync(join(directory, 'millrace.config.json'), '{');
  await expect(configure({ env: {}, directory })).rejects.toThrow(/^MR2001.*millrace.config.json cannot be read/);
  writeFileSync(join(directory, 'millrace.config.js'), '');
  await expect(configure({ env: {}, directory })).rejects.toThrow('both millrace.config.json and millrace.config.js exist');
});
