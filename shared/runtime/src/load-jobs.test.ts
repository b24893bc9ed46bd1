import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { loadJobs } from './load-jobs.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-jobs-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Marked as `defineJob` marks it; the folder is outside of the workspace and cannot import it. */
const jobFile = (name: string, after: string[] = []) =>
  `export const job: object = { name: '${name}', manifest: { after: ${JSON.stringify(after.map((job) => ({ job, on: 'success' })))} }, [Symbol.for('millrace.job')]: true };
   export const other = 1;`;

function write(path: string, text: string): string {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

test('a folder is searched to its depths for job files, tests and dependencies aside', async () => {
  write('a/job.ts', jobFile('a'));
  write('deep/er/b.job.ts', jobFile('b'));
  write('c.ts', 'throw new Error("no job file")');
  for (const path of ['b.job.test.ts', 'node_modules/x/job.ts', '__tests__/job.ts', '.cache/job.ts'])
    write(path, 'throw new Error("loaded")');
  expect([...(await loadJobs(folder)).keys()]).toEqual(['a', 'b']);
});

test('a file is loaded whatever its name', async () => {
  expect([...(await loadJobs(write('anything.ts', jobFile('a')))).keys()]).toEqual(['a']);
});

test('no jobs, and no such path, are MR2002', async () => {
  write('job.ts', 'export const nothing = 1;');
  await expect(loadJobs(folder)).rejects.toMatchObject({ code: 'MR2002' });
  await expect(loadJobs(join(folder, 'none'))).rejects.toThrow(/MR2002.*none does not exist/);
});

test('a file that fails to load is MR2003 with the file and the cause', async () => {
  const file = write('job.ts', "throw new TypeError('bad day');");
  await expect(loadJobs(folder)).rejects.toMatchObject({ code: 'MR2003', cause: expect.objectContaining({ message: 'bad day' }) });
  await expect(loadJobs(folder)).rejects.toThrow(`${file}: bad day`);
});

test('the rules between jobs are checked', async () => {
  write('a/job.ts', jobFile('a'));
  write('b/job.ts', jobFile('a'));
  await expect(loadJobs(folder)).rejects.toMatchObject({ code: 'MR1009' });
  await expect(loadJobs(write('c.ts', jobFile('c', ['none'])))).rejects.toMatchObject({ code: 'MR1011' });
});
