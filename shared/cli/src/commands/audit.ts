import { setTimeout as delay } from 'node:timers/promises';
import type { BooksReport } from '@millrace/console';
import { codeOf } from '@millrace/core';
import { connectApi } from '../connect-api.ts';
import { type ConsoleApi, runPath } from '../console-api.ts';
import { EXIT } from '../exit-codes.ts';
import { clean, number, type Output } from '../output.ts';
import { equationOf } from '../run-report.ts';
import { usage } from '../usage.ts';

/** Keys shown per problem in the table form; json has all. */
const SHOWN_KEYS = 10;
/** Runs asked for at once. */
const PAGE = 200;
/** The books of a run with many millions of items take minutes to compare. */
const PATIENCE_MS = 30 * 60_000;
const PROGRESS_MS = 5_000;
/** Between looks at a run whose end is still on its way into the plan. */
const LOOK_AGAIN_MS = 500;

export async function audit(output: Output, runId: string | undefined, options: { all?: boolean } = {}): Promise<number> {
  if ((runId === undefined) !== (options.all === true)) throw usage('name one run, or ask for --all');
  const api = await connectApi();
  try {
    return await auditOver(api, output, runId);
  } finally {
    await api.close();
  }
}

/** One run, or all of them. */
export function auditOver(api: ConsoleApi, output: Output, runId: string | undefined): Promise<number> {
  return runId === undefined ? auditAll(output, api) : auditOne(output, api, runId);
}

async function auditOne(output: Output, api: ConsoleApi, runId: string): Promise<number> {
  let books = await check(api, runId);
  if (books.settling) output.note('The run has just closed; waiting for the plan to hear of it.');
  while (books.settling) {
    await delay(LOOK_AGAIN_MS);
    books = await check(api, runId);
  }
  output.object(books, () => textOf(books));
  if (!books.closed) output.note('The run is not closed: what is open is not checked yet.');
  return books.ok ? EXIT.ok : EXIT.leak;
}

/** One run after the other, so that memory is bounded by the leaks found: one line each, the summary last. */
async function auditAll(output: Output, api: ConsoleApi): Promise<number> {
  const summary = { runs: 0, balanced: 0, open: 0, leaks: 0 };
  const leaks: BooksReport[] = [];
  let said = Date.now();
  for await (const runId of runIdsOf(api)) {
    const books = await check(api, runId).catch((error: unknown) => {
      // Deleted since the list was made.
      if (codeOf(error) === 'MR2005') return undefined;
      throw error;
    });
    if (!books) continue;
    summary.runs++;
    summary[!books.ok ? 'leaks' : books.closed ? 'balanced' : 'open']++;
    if (!books.ok) {
      if (output.format === 'json') leaks.push(books);
      else output.line(output.format === 'jsonl' ? JSON.stringify(books) : lineOf(books));
    }
    if (Date.now() - said >= PROGRESS_MS) {
      output.note(`${number(summary.runs)} runs audited, ${number(summary.leaks)} with leaks; at ${clean(runId)}`);
      said = Date.now();
    }
  }
  output.object(
    output.format === 'json' ? { ...summary, problems: leaks } : summary,
    () =>
      `${number(summary.runs)} runs: ${number(summary.balanced)} balanced, ${number(summary.open)} open and so far balanced, ${number(summary.leaks)} with leaks`,
  );
  return summary.leaks === 0 ? EXIT.ok : EXIT.leak;
}

async function* runIdsOf(api: ConsoleApi): AsyncGenerator<string> {
  let after: string | null = null;
  do {
    const page: { runIds: string[]; next: string | null } = await api.get(
      `/v1/audit?limit=${PAGE}${after === null ? '' : `&after=${encodeURIComponent(after)}`}`,
    );
    yield* page.runIds;
    after = page.next;
  } while (after !== null);
}

function check(api: ConsoleApi, runId: string): Promise<BooksReport> {
  return api.get<BooksReport>(`${runPath(runId)}/audit`, PATIENCE_MS);
}

function lineOf({ runId, problems }: BooksReport): string {
  const kinds = new Map<string, number>();
  for (const { what } of problems) kinds.set(what, (kinds.get(what) ?? 0) + 1);
  const keys = problems.flatMap((problem) => problem.keys ?? []);
  return `MR4003 ${clean(runId)}: ${[...kinds].map(([what, count]) => (count > 1 ? `${what} (${count})` : what)).join(', ')}${keysText(keys)}`;
}

function textOf({ runId, ok, closed, balance, inbox, problems }: BooksReport): string {
  const { open, ...counts } = balance;
  const agreed = { checked: 'inbox', elsewhere: 'inbox in another database, not checked', expired: 'what is left of the inbox' };
  return [
    equationOf(counts, open),
    ok
      ? `${closed ? 'balanced' : 'so far balanced'}: plan, ${agreed[inbox]} and ledger agree`
      : `MR4003 the books of ${clean(runId)} do not balance:`,
    ...problems.map(({ what, chunk, detail, keys = [] }) => `  ${what}${chunk ? ` (chunk ${chunk})` : ''}: ${detail}${keysText(keys)}`),
  ].join('\n');
}

function keysText(keys: readonly string[]): string {
  if (keys.length === 0) return '';
  return `: ${keys.slice(0, SHOWN_KEYS).map(clean).join(', ')}${keys.length > SHOWN_KEYS ? ` and ${number(keys.length - SHOWN_KEYS)} more` : ''}`;
}
