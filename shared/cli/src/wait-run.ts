import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '@millrace/core';
import { type ConsoleApi, type RunJson, runPath } from './console-api.ts';
import { Progress } from './progress.ts';

const POLL_MS = 250;
const UNSEEN_NOTE_MS = 10_000;
/** A console or database that is started anew answers again within this time. */
const AWAY_MS = 60_000;
const AWAY: readonly unknown[] = ['MR3015', 'MR3001'];

/**
 * Waits until the run is closed in `generation` or a later one; undefined when `timeoutMs` passed before. A run that is
 * not known yet is waited for: a planner takes the trigger in its own time. So is, for a minute, a console or its database
 * that does not answer.
 */
export async function waitRun(
  api: ConsoleApi,
  runId: string,
  generation: number,
  timeoutMs: number | undefined,
  note: (text: string) => void,
): Promise<RunJson | undefined> {
  const began = Date.now();
  const progress = new Progress(10_000);
  let unseen = true;
  let noted = false;
  let answeredAt = began;
  for (;;) {
    try {
      const run = await api.get<RunJson>(runPath(runId));
      unseen = false;
      answeredAt = Date.now();
      if (run.state === 'closed' && run.generation >= generation) {
        progress.clear();
        return run;
      }
      if (run.generation >= generation) progress.show([run]);
    } catch (error) {
      const away = AWAY.includes(codeOf(error)) && Date.now() - answeredAt < AWAY_MS;
      if (codeOf(error) !== 'MR2005' && !away) throw error;
    }
    if (timeoutMs !== undefined && Date.now() - began >= timeoutMs) {
      progress.clear();
      return undefined;
    }
    if (unseen && !noted && Date.now() - began > UNSEEN_NOTE_MS) {
      noted = true;
      note('No planner has taken the trigger yet. Is one running, and does the job accept these parameters? Its log tells.');
    }
    await delay(POLL_MS);
  }
}
