import { connectApi } from '../connect-api.ts';
import { type RunJson, runPath } from '../console-api.ts';
import { EXIT } from '../exit-codes.ts';
import { duration, type Output } from '../output.ts';
import { reportOf } from '../run-report.ts';
import { timeoutOf } from '../usage.ts';
import { waitRun } from '../wait-run.ts';
import { report } from './run.ts';

/** The console hands out at most this many at once. */
const PAGE = 1_000;

export async function listRuns(output: Output, options: { job?: string; state?: string; limit: number }): Promise<number> {
  const api = await connectApi();
  try {
    const runs: RunJson[] = [];
    let next: string | null = null;
    do {
      const query = new URLSearchParams({ limit: String(Math.min(PAGE, options.limit - runs.length)) });
      if (options.job) query.set('job', options.job);
      if (options.state) query.set('state', options.state);
      if (next) query.set('after', next);
      const page: { runs: RunJson[]; next: string | null } = await api.get(`/v1/runs?${query}`);
      runs.push(...page.runs);
      next = page.next;
    } while (next !== null && runs.length < options.limit);
    if (output.format !== 'table') output.rows(runs, []);
    else if (runs.length === 0) output.note('No runs yet. Start one: millrace run <job>');
    else {
      output.rows(
        runs.map(({ runId, state, verdict, counts, durationMs, startedAt }) => ({
          run: runId,
          state: verdict ?? state,
          planned: counts.planned,
          applied: counts['applied'],
          skipped: counts['skipped'],
          failing: (counts['failed'] ?? 0) + (counts['rejected'] ?? 0) + (counts['expired'] ?? 0),
          took: duration(durationMs),
          started: startedAt.slice(0, 19),
        })),
        ['run', 'state', 'planned', 'applied', 'skipped', 'failing', 'took', 'started'],
      );
    }
    return EXIT.ok;
  } finally {
    await api.close();
  }
}

export async function showRun(output: Output, runId: string): Promise<number> {
  const api = await connectApi();
  try {
    const run = await api.get<RunJson>(runPath(runId));
    output.object(run, () => reportOf(run));
    return EXIT.ok;
  } finally {
    await api.close();
  }
}

export async function watchRun(output: Output, runId: string, options: { timeout?: string }): Promise<number> {
  const timeout = timeoutOf(options.timeout);
  const api = await connectApi({ work: true, note: output.note });
  try {
    await api.get(runPath(runId));
    return report(output, runId, await waitRun(api, runId, 0, timeout, output.note));
  } finally {
    await api.close();
  }
}
