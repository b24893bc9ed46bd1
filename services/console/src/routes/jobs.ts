import { dueBetween, formatInstant, JobManifest, MillraceError, nextDue } from '@millrace/core';
import Type from 'typebox';
import type { App, ConsoleParts } from '../app.ts';
import type { Commands } from '../commands.ts';
import { Problem } from '../problem.ts';
import { requesterOf } from '../requester.ts';

const Job = Type.Object({ job: Type.String({ minLength: 1, maxLength: 63 }) });
/** A schedule is looked ahead at most this far. */
const HORIZON_MS = 10 * 366 * 86_400_000;

export function jobRoutes(app: App, { registry, time }: ConsoleParts, commands: Commands): void {
  app.get(
    '/v1/jobs',
    {
      schema: {
        tags: ['jobs'],
        summary: 'Jobs that planners have made known',
        response: { 200: Type.Object({ jobs: Type.Array(JobManifest) }), default: Problem },
      },
    },
    async () => ({ jobs: [...(await registry.list())] }),
  );

  app.get(
    '/v1/jobs/:job/ticks',
    {
      schema: {
        tags: ['jobs'],
        summary: 'The next ticks of a schedule',
        params: Job,
        querystring: Type.Object({ n: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 10 })) }),
        response: { 200: Type.Object({ job: Type.String(), timeZone: Type.String(), ticks: Type.Array(Type.String()) }), default: Problem },
      },
    },
    async (request) => {
      const { job } = request.params;
      const manifest = (await registry.list()).find(({ name }) => name === job);
      if (!manifest) throw new MillraceError('MR2004', `"${job}"`);
      if (!manifest.schedule) throw new MillraceError('MR2011', `"${job}"`);
      const now = time.now();
      const first = nextDue(manifest.schedule, now);
      const ticks = first === undefined ? [] : dueBetween(manifest.schedule, now, now + HORIZON_MS, request.query.n ?? 10);
      return { job, timeZone: manifest.schedule.timeZone, ticks: ticks.map(formatInstant) };
    },
  );

  app.post(
    '/v1/jobs/:job/runs',
    {
      schema: {
        tags: ['runs'],
        summary: 'Ask for a run',
        params: Job,
        description: 'The same key (in the body or as Idempotency-Key) always names the same run: sending it again starts nothing.',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        body: Type.Union([
          Type.Object(
            {
              params: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
              at: Type.Optional(Type.String({ description: 'ISO 8601 with a zone' })),
              limit: Type.Optional(Type.Integer({ minimum: 1, description: 'at most this many items' })),
              key: Type.Optional(Type.String()),
            },
            { additionalProperties: false },
          ),
          Type.Null(),
        ]),
        response: { 202: Type.Object({ runId: Type.String(), key: Type.String() }), default: Problem },
      },
    },
    async (request, reply) => {
      const body = request.body ?? {};
      const header = request.headers['idempotency-key'];
      if (body.key !== undefined && header !== undefined && body.key !== header)
        throw new MillraceError('MR2008', 'Idempotency-Key and the key of the body differ');
      const key = body.key ?? header;
      const made = await commands.trigger(
        { job: request.params.job, ...body, ...(key === undefined ? {} : { key }) },
        requesterOf(request),
      );
      return reply
        .status(202)
        .header('location', `/v1/runs/${encodeURIComponent(made.runId)}`)
        .send(made);
    },
  );
}
