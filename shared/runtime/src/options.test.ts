import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { option, readOptions, shown } from './options.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-options-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const declared = {
  window: option({ env: 'MILLRACE_WINDOW', kind: 'integer', default: 5, min: 1, max: 10, description: '' }),
  wait: option({ env: 'MILLRACE_WAIT', kind: 'duration', default: 100, description: '' }),
  url: option({ env: 'MILLRACE_URL', kind: 'url', secret: true, description: '' }),
  fast: option({ env: 'MILLRACE_FAST', kind: 'boolean', default: false, description: '' }),
  level: option({ env: 'MILLRACE_LEVEL', kind: 'string', default: 'info', choices: ['info', 'warn'], description: '' }),
  data: option({ env: 'MILLRACE_DATA', kind: 'path', default: '/data', description: '' }),
};

describe('options', () => {
  test('take their defaults where nothing is set, and an empty variable is not set', () => {
    expect(readOptions(declared, { env: { MILLRACE_WINDOW: '' } })).toEqual({
      window: 5,
      wait: 100,
      url: undefined,
      fast: false,
      level: 'info',
      data: '/data',
    });
  });

  test('are read by kind, and the environment wins over the file', () => {
    const file = { window: 3, wait: '2s', fast: true, level: 'warn', data: 'here' };
    const values = readOptions(declared, {
      env: { MILLRACE_WINDOW: '7', MILLRACE_FAST: '0', MILLRACE_URL: 'http://localhost:1' },
      file,
      directory: '/etc/millrace',
    });
    expect(values).toEqual({ window: 7, wait: 2_000, url: 'http://localhost:1', fast: false, level: 'warn', data: '/etc/millrace/here' });
  });

  test('report every problem at once, with the value and where it stands', () => {
    const env = { MILLRACE_WINDOW: '11', MILLRACE_WAIT: 'soon', MILLRACE_FAST: 'yes' };
    const read = () => readOptions(declared, { env, file: { level: 'loud' }, fileName: 'millrace.config.json' });
    expect(read).toThrow(/^MR2001 Invalid configuration: 4 problems/);
    expect(read).toThrow(/MILLRACE_WINDOW is "11"; expected a whole number from 1 to 10/);
    expect(read).toThrow(/MILLRACE_WAIT is "soon"; expected a duration/);
    expect(read).toThrow(/MILLRACE_FAST is "yes"; expected true or false/);
    expect(read).toThrow(/level in millrace.config.json is "loud"; expected one of info, warn/);
  });

  test('never show a secret', () => {
    expect(() => readOptions(declared, { env: { MILLRACE_URL: 'hunter2' } })).toThrow('MILLRACE_URL is (hidden); expected a URL');
    expect(shown(declared.url, 'postgres://me:hunter2@db:5432/app')).toBe('postgres://db:5432/app');
  });

  test('read a secret from a file, without its line end', () => {
    const path = join(folder, 'url');
    writeFileSync(path, 'http://localhost:2\n');
    expect(readOptions(declared, { env: { MILLRACE_URL_FILE: path } }).url).toBe('http://localhost:2');
    expect(() => readOptions(declared, { env: { MILLRACE_URL_FILE: path, MILLRACE_URL: 'http://a' } })).toThrow('both set');
    expect(() => readOptions(declared, { env: { MILLRACE_URL_FILE: join(folder, 'none') } })).toThrow(/MILLRACE_URL_FILE: .*ENOENT/);
  });
});
