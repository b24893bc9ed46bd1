import { connectApi } from '../connect-api.ts';
import type { RunJson } from '../console-api.ts';
import { EXIT, exitCodeOfVerdict } from '../exit-codes.ts';
import type { Output } from '../output.ts';
import { reportOf } from '../run-report.ts';
import { paramsOf, timeoutOf } from '../usage.ts';
import { waitRun } from '../wait-run.ts';

interface RunOptions {
  readonly param?: readonly string[];
  readonly key?: string;
  readonly at?: string;
  readonly limit?: number;
  readonly wait?: boolean;
  readonly timeout?: string;
}

export async function run(output: Output, job: string, options: RunOptions): Promise<number> {
  const timeout = timeoutOf(options.timeout);
  const body = {
    ...(options.param ? { params: paramsOf(options.param) } : {}),
    ...(options.key === undefined ? {} : { key: options.key }),
    ...(options.at === undefined ? {} : { at: options.at }),
    ...(options.limit === undefined ? {} : { limit: options.limit }),
  };
  const api = await connectApi({ work: true, note: output.note });
  try {
    const made = await api.post<{ runId: string; key: string }>(`/v1/jobs/${encodeURIComponent(job)}/runs`, body);
    // A process that does the work itself must stay until it is done.
    if (!options.wait && !api.works) {
      output.object(made, () => made.runId);
      return EXIT.ok;
    }
    output.note(`run ${made.runId}`);
    return report(output, made.runId, await waitRun(api, made.runId, 0, timeout, output.note));
  } finally {
    await api.close();
  }
}

/** Prints how a run ended; the exit code is its verdict. */
export function report(output: Output, runId: string, run: RunJson | undefined): number {
  if (!run) {
    output.note(`Still running when --timeout was over; follow it with: millrace runs watch '${runId}'`);
    return EXIT.timeout;
  }
  output.object(run, () => reportOf(run));
  return exitCodeOfVerdict(run.verdict);
}
