import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { openPglite } from '@millrace/postgres';
import { waitFor } from '@millrace/testing';
import { MillraceProcess, millrace } from './millrace-process.ts';

const CITIES = 138_398;

/** Items of the newest run that are done, by the API of a running process. */
async function done({ stderr }: MillraceProcess): Promise<number> {
  const url = /Dashboard: (\S+)/.exec(stderr)?.[1];
  if (!url) return 0;
  const { runs } = (await (await fetch(`${url}/v1/runs`)).json()) as { runs: { progress: { done: number } }[] };
  return runs[0]?.progress.done ?? 0;
}

describe('embedded mode', () => {
  let data: string;
  let env: Record<string, string>;

  beforeEach(() => {
    data = mkdtempSync(join(tmpdir(), 'millrace-'));
    env = { MILLRACE_DATA: data, MILLRACE_HTTP_PORT: '0' };
  });
  afterEach(() => rmSync(data, { recursive: true, force: true }));

  test('dev --once ticks, runs all cities and the dependent job, and reports numbers that add up', async () => {
    const { code, stdout, stderr } = await millrace(['dev', '--once', '-o', 'jsonl'], env);
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
    const reports = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(reports.map((report) => [report.job, report.verdict])).toEqual([
      ['sunrise-table', 'succeeded'],
      ['longest-days', 'succeeded'],
    ]);
    const { counts } = reports[0];
    expect(counts.planned).toBe(CITIES);
    expect(counts.applied + counts.skipped).toBe(CITIES);
    // Progress is visible while it runs.
    expect(stderr).toMatch(/ done [\d,]+, the plan still grows,| \/ 138,398/);
  }, 120_000);

  test('dev --once shows again what ran before, and says when there is nothing to run', async () => {
    const jobs = fileURLToPath(new URL('./once.job.ts', import.meta.url));
    const once = () => millrace(['dev', '--once'], { ...env, MILLRACE_JOBS: jobs });
    const first = await once();
    expect(first).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/yearly@\d{4}-01-01T00:00:00Z succeeded\n {2}planned 1 = applied 1\n/),
    });
    const db = await openPglite({ directory: data });
    // More runs than are looked at when it starts.
    await db.query(
      `insert into audit.runs select (jsonb_populate_record(r, jsonb_build_object('run_id', 'other@' || n, 'job', 'other', 'opened_at', now()))).*
       from audit.runs r, generate_series(1, 60) n`,
    );
    await db.close();
    const second = await once();
    expect(second).toMatchObject({ code: 0, stdout: first.stdout, stderr: expect.stringContaining('ran before, and a tick runs once') });
    const none = await millrace(['dev', '--once'], { ...env, MILLRACE_JOBS: jobs.replace('once.job', 'extreme-fixture') });
    expect(none).toMatchObject({ code: 0, stdout: '', stderr: expect.stringContaining('Nothing ran: no job has a schedule') });
  }, 120_000);

  test('after kill -9 in mid-run, starting again finishes that run with balanced books and no doubled effect', async () => {
    const first = new MillraceProcess(['dev'], env);
    await waitFor(async () => (await done(first)) > 20_000, { timeout: 60_000, what: 'a run in its middle' });
    await first.end('SIGKILL');

    const second = new MillraceProcess(['dev'], env);
    try {
      await waitFor(() => second.stdout.includes('longest-days@'), { timeout: 90_000, what: 'the dependent of the interrupted run' });
    } finally {
      await second.end('SIGTERM');
    }

    const db = await openPglite({ directory: data });
    try {
      const { rows } = await db.query<{ run_id: string; planned: string; applied: string; skipped: string; verdict: string }>(
        `select run_id, planned, applied, skipped, verdict from audit.runs where job = 'sunrise-table' order by opened_at limit 1`,
      );
      expect(rows[0]).toMatchObject({ planned: String(CITIES), verdict: 'succeeded' });
      expect(Number(rows[0]?.applied) + Number(rows[0]?.skipped)).toBe(CITIES);
      const inbox = await db.query<{ chunks: string; items: string }>(
        'select count(*) as chunks, sum(size) as items from millrace.inbox where run_id = $1',
        [rows[0]?.run_id],
      );
      expect(Number(inbox.rows[0]?.items)).toBe(CITIES);
    } finally {
      await db.close();
    }
  }, 180_000);

  test('a second process on the same directory is told which process holds it; other commands use that process', async () => {
    const holder = new MillraceProcess(['dev'], env);
    try {
      await waitFor(() => holder.stderr.includes('Dashboard'), { timeout: 60_000 });
      const second = await millrace(['dev'], env);
      expect(second.code).toBe(1);
      expect(second.stderr).toContain('MR3008');
      expect(second.stderr).toContain(String(holder.child.pid));
      const jobs = await millrace(['jobs', '-o', 'json'], env);
      expect(jobs.stdout).toContain('sunrise-table');
      const unknown = await millrace(['run', 'no-such-job'], env);
      expect([unknown.code, unknown.stderr]).toEqual([3, expect.stringContaining('MR2004')]);
    } finally {
      await holder.end('SIGTERM');
    }
  }, 120_000);

  test.each([
    [
      1,
      { AMQP_URL: 'amqp://127.0.0.1:1', NATS_URL: '127.0.0.1:1', DATABASE_URL: 'postgres://u:secret@127.0.0.1:1/x' },
      ['start', 'processor'],
      /MR300[135]/,
    ],
    [2, { AMQP_URL: 'amqp://127.0.0.1:1' }, ['dev'], /MR2001/],
    [3, { MILLRACE_JOBS: './no-such-folder' }, ['dev', '--once'], /MR2002|MR2003/],
  ])(
    'exit %i for %j: an error with a code and a fix, and no secret',
    async (expected, extra, args, code) => {
      const { code: exit, stderr } = await millrace(args, { ...env, ...extra });
      expect(exit).toBe(expected);
      expect(stderr).toMatch(code);
      expect(stderr.toLowerCase()).toContain('fix');
      expect(stderr).not.toContain('secret');
    },
    60_000,
  );
});
