import Type, { type Static } from 'typebox';

export const BooksView = Type.Object({
  runId: Type.String(),
  ok: Type.Boolean({ description: 'No problem was found. An open run is checked only for what is settled.' }),
  closed: Type.Boolean(),
  settling: Type.Boolean({
    description: 'The ledger has closed the run, and the plan has not heard of it yet: ask again in a second. At most for a minute.',
  }),
  balance: Type.Object(
    {
      planned: Type.Integer(),
      applied: Type.Integer(),
      skipped: Type.Integer(),
      duplicate: Type.Integer(),
      failed: Type.Integer(),
      rejected: Type.Integer(),
      cancelled: Type.Integer(),
      expired: Type.Integer(),
      indeterminate: Type.Integer(),
      open: Type.Integer({ description: 'Items that still owe an outcome' }),
    },
    { description: 'Rebuilt from settled chunks: planned = applied + … + indeterminate + open' },
  ),
  inbox: Type.Union([Type.Literal('checked'), Type.Literal('elsewhere'), Type.Literal('expired')], {
    description:
      'elsewhere: the sink of this job writes to another database; expired: the run is older than inboxes are kept, so that missing rows say nothing',
  }),
  problems: Type.Array(
    Type.Object({
      what: Type.String(),
      chunk: Type.Union([Type.String(), Type.Null()]),
      detail: Type.String(),
      keys: Type.Optional(Type.Array(Type.String())),
    }),
  ),
});
export type BooksReport = Static<typeof BooksView>;

export interface Books {
  /** Rebuilds the balance sheet of a run and compares every book. Undefined when no book knows the run. */
  check(runId: string): Promise<BooksReport | undefined>;
  /** Ids of all runs that any book knows, in the order of their names, beginning after `after`. */
  runIds(limit: number, after?: string): Promise<readonly string[]>;
}
