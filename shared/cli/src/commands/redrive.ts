import { createInterface } from 'node:readline/promises';
import { connectApi } from '../connect-api.ts';
import { type RunJson, runPath } from '../console-api.ts';
import { EXIT } from '../exit-codes.ts';
import { number, type Output } from '../output.ts';
import { timeoutOf, usage } from '../usage.ts';
import { waitRun } from '../wait-run.ts';
import { report } from './run.ts';

interface RedriveOptions {
  readonly group?: string;
  readonly key?: readonly string[];
  readonly yes?: boolean;
  readonly wait?: boolean;
  readonly timeout?: string;
}

export async function redrive(output: Output, runId: string, options: RedriveOptions): Promise<number> {
  const timeout = timeoutOf(options.timeout);
  const api = await connectApi({ work: true, note: output.note });
  try {
    const run = await api.get<RunJson>(runPath(runId));
    if (!options.yes) {
      if (!process.stdin.isTTY) throw usage('redrive asks before it starts; pass --yes where nobody can answer');
      const { failed = 0, rejected = 0, expired = 0, cancelled = 0 } = run.counts;
      const what = options.key
        ? `${options.key.length} key(s)`
        : options.group
          ? `group ${options.group}`
          : `${number(failed + rejected + expired + cancelled)} item(s)`;
      if (!(await confirm(`Try ${what} of ${runId} again? [y/N] `))) return EXIT.refused;
    }
    const made = await api.post<{ runId: string; generation: number; items: number }>(`${runPath(runId)}/redrive`, {
      ...(options.group === undefined ? {} : { group: options.group }),
      ...(options.key ? { keys: options.key } : {}),
    });
    if (!options.wait && !api.works) {
      output.object(made, () => `${made.runId} generation ${made.generation}, ${number(made.items)} item(s)`);
      return EXIT.ok;
    }
    output.note(`${number(made.items)} item(s) as generation ${made.generation}`);
    return report(output, runId, await waitRun(api, runId, made.generation, timeout, output.note));
  } finally {
    await api.close();
  }
}

async function confirm(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(question)).trim());
  } finally {
    terminal.close();
  }
}
