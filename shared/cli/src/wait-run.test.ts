import { expect, test } from '@jest/globals';
import { MillraceError } from '@millrace/core';
import { apiOver } from './console-api.ts';
import { waitRun } from './wait-run.ts';

/** A console that answers with these in turn; the last one for ever. */
function consoleThat(...answers: (Error | { status: number; body: object })[]) {
  let asked = 0;
  const send = async () => {
    const answer = answers[Math.min(asked++, answers.length - 1)];
    if (answer === undefined || answer instanceof Error) throw answer;
    return { status: answer.status, text: JSON.stringify(answer.body) };
  };
  return apiOver('http://console', send, async () => undefined);
}

const away = new MillraceError('MR3015', 'http://console (ECONNREFUSED)');
const noDatabase = { status: 503, body: { code: 'MR3001', detail: 'postgres:5432 (ECONNREFUSED)' } };
const closed = { status: 200, body: { runId: 'a@b', state: 'closed', generation: 0, verdict: 'succeeded' } };

test('a console or database that is started anew in the middle of a wait is waited for', async () => {
  const run = await waitRun(consoleThat(away, noDatabase, closed), 'a@b', 0, undefined, () => {});
  expect(run).toMatchObject({ verdict: 'succeeded' });
});

test('the wait is over when its time is, whatever the console does', async () => {
  expect(await waitRun(consoleThat(away), 'a@b', 0, 1, () => {})).toBeUndefined();
});

test('any other refusal ends the wait', async () => {
  const refused = { status: 500, body: { code: 'MR3012', detail: 'disk full' } };
  await expect(waitRun(consoleThat(refused), 'a@b', 0, undefined, () => {})).rejects.toMatchObject({ code: 'MR3012' });
});
