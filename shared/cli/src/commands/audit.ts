import type { BooksReport } from '@millrace/console';
import { connectApi } from '../connect-api.ts';
import { runPath } from '../console-api.ts';
import { EXIT } from '../exit-codes.ts';
import { clean, type Output } from '../output.ts';
import { equationOf } from '../run-report.ts';

/** Keys shown per problem in the table form; json has all. */
const SHOWN_KEYS = 10;

export async function audit(output: Output, runId: string): Promise<number> {
  const api = await connectApi();
  try {
    const books = await api.get<BooksReport>(`${runPath(runId)}/audit`);
    output.object(books, () => textOf(books));
    if (!books.closed) output.note('The run is not closed: what is open is not checked yet.');
    return books.ok ? EXIT.ok : EXIT.leak;
  } finally {
    await api.close();
  }
}

function textOf({ runId, ok, closed, balance, inbox, problems }: BooksReport): string {
  const { open, ...counts } = balance;
  return [
    equationOf(counts, open),
    ok
      ? `${closed ? 'balanced' : 'so far balanced'}: plan, ${inbox === 'checked' ? 'inbox' : 'inbox in another database, not checked'} and ledger agree`
      : `MR4003 the books of ${clean(runId)} do not balance:`,
    ...problems.map(
      ({ what, chunk, detail, keys = [] }) =>
        `  ${what}${chunk ? ` (chunk ${chunk})` : ''}: ${detail}${keys.length > 0 ? `: ${keys.slice(0, SHOWN_KEYS).map(clean).join(', ')}${keys.length > SHOWN_KEYS ? ` and ${keys.length - SHOWN_KEYS} more` : ''}` : ''}`,
    ),
  ].join('\n');
}
