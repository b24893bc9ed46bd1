import { formatInstant, MillraceError } from '@millrace/core';
import Type from 'typebox';
import type { App, ConsoleParts } from '../app.ts';
import { BooksView } from '../books.ts';
import type { Commands } from '../commands.ts';
import type { LedgerRun } from '../ledger.ts';
import { Problem } from '../problem.ts';
import { requesterOf } from '../requester.ts';
import { FailureGroupView, RunView, viewOf } from '../run-view.ts';

const Id = Type.Object({ id: Type.String({ minLength: 1, maxLength: 256 }) });
const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 50 }));
const After = Type.Optional(Type.String({ minLength: 1, maxLength: 256, description: '`next` of the page before' }));
const Next = Type.Union([Type.String(), Type.Null()]);
const Nothing = Type.Null();
/** Groups shown with a run. */
const TOP_GROUPS = 20;

const FailureView = Type.Object({
  key: Type.String(),
  fingerprint: Type.String(),
  class: Type.String(),
  title: Type.String(),
  message: Type.String(),
  generation: Type.Integer(),
  attempt: Type.Integer(),
  final: Type.Boolean(),
  at: Type.String(),
});

export function runRoutes(app: App, { ledger, books, time, jaegerUrl }: ConsoleParts, commands: Commands): void {
  const get = async (id: string): Promise<LedgerRun> => {
    const run = await ledger.findRun(id);
    if (!run) throw new MillraceError('MR2005', `"${id}"`);
    return run;
  };

  app.get(
    '/v1/runs',
    {
      schema: {
        tags: ['runs'],
        summary: 'Runs, newest first',
        querystring: Type.Object({
          job: Type.Optional(Type.String()),
          limit: Limit,
          after: After,
          state: Type.Optional(Type.Union([Type.Literal('planning'), Type.Literal('running'), Type.Literal('closed')])),
        }),
        response: { 200: Type.Object({ runs: Type.Array(RunView), next: Next }), default: Problem },
      },
    },
    async ({ query: { limit = 50, ...filter } }) => {
      const runs = await ledger.listRuns({ ...filter, limit: limit + 1 });
      const page = runs.slice(0, limit);
      const now = time.now();
      return { runs: page.map((run) => viewOf(run, [], now, jaegerUrl)), next: runs.length > limit ? (page.at(-1)?.runId ?? null) : null };
    },
  );

  app.get(
    '/v1/runs/:id',
    { schema: { tags: ['runs'], summary: 'One run', params: Id, response: { 200: RunView, default: Problem } } },
    async ({ params: { id } }) => viewOf(await get(id), await ledger.failureGroups(id, TOP_GROUPS), time.now(), jaegerUrl),
  );

  app.get(
    '/v1/runs/:id/failures',
    {
      schema: {
        tags: ['runs'],
        summary: 'Failing items and their groups',
        params: Id,
        querystring: Type.Object({
          group: Type.Optional(Type.String()),
          limit: Limit,
          after: Type.Optional(Type.String({ pattern: '^\\d{1,9}\\.\\d{1,9}$' })),
        }),
        response: {
          200: Type.Object({ groups: Type.Array(FailureGroupView), failures: Type.Array(FailureView), next: Next }),
          default: Problem,
        },
      },
    },
    async ({ params: { id }, query: { limit = 50, ...filter } }) => {
      await get(id);
      const [groups, found] = [await ledger.failureGroups(id, 100), await ledger.listFailures(id, { ...filter, limit: limit + 1 })];
      const page = found.slice(0, limit);
      return {
        groups: [...groups],
        next: found.length > limit ? (page.at(-1)?.cursor ?? null) : null,
        failures: page.map(({ cursor: _, at, ...failure }) => ({ ...failure, at: formatInstant(at) })),
      };
    },
  );

  app.post(
    '/v1/runs/:id/redrive',
    {
      schema: {
        tags: ['runs'],
        summary: 'Try failing items of a closed run again',
        params: Id,
        body: Type.Union([
          Type.Object(
            {
              group: Type.Optional(Type.String({ minLength: 1 })),
              keys: Type.Optional(Type.Array(Type.String(), { minItems: 1, maxItems: 10_000 })),
            },
            { additionalProperties: false },
          ),
          Nothing,
        ]),
        response: { 202: Type.Object({ runId: Type.String(), generation: Type.Integer(), items: Type.Integer() }), default: Problem },
      },
    },
    async (request, reply) => reply.status(202).send(await commands.redrive(request.params.id, request.body ?? {}, requesterOf(request))),
  );

  app.get(
    '/v1/runs/:id/audit',
    {
      schema: {
        tags: ['runs'],
        summary: 'Rebuild the balance sheet and compare every book',
        params: Id,
        response: { 200: BooksView, default: Problem },
      },
    },
    async ({ params: { id } }) => {
      const report = await books.check(id);
      if (!report) throw new MillraceError('MR2005', `"${id}"`);
      return report;
    },
  );

  app.get(
    '/v1/audit',
    {
      schema: {
        tags: ['runs'],
        summary: 'Ids of all runs that any book knows, also of those that the ledger has lost; audit each by its own address',
        querystring: Type.Object({ limit: Limit, after: After }),
        response: { 200: Type.Object({ runIds: Type.Array(Type.String()), next: Next }), default: Problem },
      },
    },
    async ({ query: { limit = 50, after } }) => {
      const runIds = await books.runIds(limit + 1, after);
      const page = runIds.slice(0, limit);
      return { runIds: page, next: runIds.length > limit ? (page.at(-1) ?? null) : null };
    },
  );
}
