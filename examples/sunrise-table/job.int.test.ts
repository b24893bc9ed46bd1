import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from '@jest/globals';

const SCRIPT = `
  import { runJob } from 'millrace/testing';
  import { sunriseTable } from './job.ts';
  const { planned, counts, skips, verdict, effects } = await runJob(sunriseTable, { at: '2026-11-24T00:10:00Z' });
  console.log(JSON.stringify({ planned, counts, skips, verdict, shortest: Math.min(...effects.slice(0, 1000).map((e) => e.day_length_s)) }));
`;

describe('sunrise-table', () => {
  // In a process of its own: inside Jest's sandbox reading the cities takes 70 times as long.
  test('a whole run gives every city exactly one outcome', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', SCRIPT], {
      cwd: join(import.meta.dirname),
    });
    const run = JSON.parse(stdout);
    expect(run).toMatchObject({
      planned: 138_398,
      verdict: 'succeeded',
      counts: { applied: 138_375, skipped: 23, failed: 0, rejected: 0, duplicate: 0 },
    });
    expect(run.skips).toEqual({ 'polar day': 1, 'polar night': 22 });
    expect(run.shortest).toBeGreaterThan(0);
  });
});
