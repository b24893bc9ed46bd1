import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Fixture, openFixture } from '../../../../services/console/src/console-fixture.ts';
import { apiOver, type ConsoleApi } from '../console-api.ts';
import { type Format, openOutput } from '../output.ts';
import { auditOver } from './audit.ts';

describe('millrace audit', () => {
  let f: Fixture;
  let api: ConsoleApi;

  beforeAll(async () => {
    f = await openFixture();
    api = apiOver(
      'the test',
      async (method, path) => {
        const reply = await f.app.inject({ method, url: path, headers: { host: 'localhost' } });
        return { status: reply.statusCode, text: reply.body };
      },
      async () => undefined,
    );
    for (const name of ['a', 'b', 'c']) {
      await f.addRun({ runId: `refresh@manual:${name}`, counts: { applied: 2 } });
      await f.addChunk(`refresh@manual:${name}`, 0, ['x', 'y'], '2a');
    }
    await f.addRun({ runId: 'refresh@manual:open', state: 'running', planned: 2 });
  }, 60_000);
  afterAll(() => f.close());

  const audit = async (runId: string | undefined, format: Format = 'table') => {
    let stdout = '';
    const code = await auditOver(api, openOutput(format, { write: (text) => (stdout += text) }, { write: () => undefined }), runId);
    return { code, stdout };
  };

  test('all runs balanced: a summary, and exit 0', async () => {
    expect(await audit(undefined)).toEqual({
      code: 0,
      stdout: '4 runs: 3 balanced, 1 open and so far balanced, 0 with leaks\n',
    });
  });

  test('one line for each run with a leak, runs that the ledger has lost included, and exit 9', async () => {
    await f.db.query(`delete from millrace.inbox where run_id = 'refresh@manual:a'`);
    await f.db.query(`delete from audit.runs where run_id = 'refresh@manual:c'`);
    expect(await audit(undefined)).toEqual({
      code: 9,
      stdout: [
        'MR4003 refresh@manual:a: chunk missing in inbox: x, y',
        'MR4003 refresh@manual:c: run missing in ledger',
        '4 runs: 1 balanced, 1 open and so far balanced, 2 with leaks\n',
      ].join('\n'),
    });
    const { code, stdout } = await audit(undefined, 'json');
    expect([code, JSON.parse(stdout)]).toEqual([
      9,
      expect.objectContaining({ runs: 4, leaks: 2, problems: [expect.objectContaining({ runId: 'refresh@manual:a' }), expect.anything()] }),
    ]);
    const lines = (await audit(undefined, 'jsonl')).stdout.trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).runId)).toEqual(['refresh@manual:a', 'refresh@manual:c', undefined]);
    expect(await audit('refresh@manual:c')).toMatchObject({ code: 9, stdout: expect.stringContaining('run missing in ledger') });
    expect(await audit('refresh@manual:b')).toMatchObject({ code: 0 });
    await expect(audit('refresh@manual:nobody')).rejects.toMatchObject({ code: 'MR2005' });
  });

  test('a run that has closed a moment ago is audited once the plan has heard of it', async () => {
    await f.addRun({ runId: 'refresh@manual:late', counts: { applied: 2 } });
    await f.addChunk('refresh@manual:late', 0, ['x', 'y'], '2a');
    await f.db.query(`update audit.runs set closed_at = now() where run_id = 'refresh@manual:late'`);
    await f.db.query(`update planner.runs set state = 'running' where run_id = 'refresh@manual:late'`);
    let stdout = '';
    const notes: string[] = [];
    let heard: Promise<unknown> = Promise.resolve();
    const note = (text: string) => {
      notes.push(text);
      heard = f.db.query(`update planner.runs set state = 'closed' where run_id = 'refresh@manual:late'`);
    };
    const output = openOutput('table', { write: (text) => (stdout += text) }, { write: note });
    expect(await auditOver(api, output, 'refresh@manual:late')).toBe(0);
    await heard;
    expect(notes).toEqual([expect.stringContaining('waiting for the plan')]);
    expect(stdout).toContain('\nbalanced: plan, inbox and ledger agree');
  });
});
