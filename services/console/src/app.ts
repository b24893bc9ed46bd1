import type { IncomingMessage, ServerResponse } from 'node:http';
import helmet from '@fastify/helmet';
import swagger from '@fastify/swagger';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { type Milliseconds, MillraceError, messageOf, type Time } from '@millrace/core';
import type { EventBroker, Publisher } from '@millrace/messaging';
import { METRICS_TYPE, metricsText } from '@millrace/runtime';
import fastify, { type FastifyBaseLogger, type FastifyInstance, type RawServerDefault } from 'fastify';
import type { Books } from './books.ts';
import { Commands } from './commands.ts';
import type { Ledger } from './ledger.ts';
import { problemOf } from './problem.ts';
import type { Registry } from './registry.ts';
import { eventRoutes } from './routes/events.ts';
import { jobRoutes } from './routes/jobs.ts';
import { pageRoutes } from './routes/page.ts';
import { runRoutes } from './routes/runs.ts';
import { RunFeed } from './run-feed.ts';

export interface ConsoleParts {
  readonly ledger: Ledger;
  readonly publisher: Publisher & Pick<EventBroker, 'system'>;
  readonly registry: Registry;
  readonly books: Books;
  readonly log: { warn(obj: object, msg: string): void; error(obj: object, msg: string): void };
  readonly time: Time;
  /** In [0, 1); names triggers that came without a key. */
  readonly random: () => number;
  /** Throws MR1013; only a process that holds the jobs' code can tell. Default: the planner alone decides. */
  readonly checkParams?: (job: string, params: Record<string, unknown>) => void;
  /** How long inboxes are kept: an older run cannot be redriven. Default 0: for ever. */
  readonly inboxRetention?: Milliseconds;
  /** Reasons for not being ready, beside the ledger. Default: none. */
  readonly notReady?: () => readonly string[];
  /**
   * Host names that requests may be addressed to; undefined allows any. Against DNS rebinding when only this machine is served.
   */
  readonly hosts?: readonly string[] | undefined;
  /** Where people open Jaeger; undefined: runs have no link to their trace. */
  readonly jaegerUrl?: string | undefined;
}

export type App = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>;

/** The HTTP API and the page. Not listening yet: `listen` it, or call it through `inject`. */
export async function buildApp(parts: ConsoleParts): Promise<App> {
  const app: App = fastify({
    // Run ids are long: job name, "@manual:", key.
    routerOptions: { maxParamLength: 512 },
    bodyLimit: 1024 * 1024,
    forceCloseConnections: true,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: true } },
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.setErrorHandler((error, request, reply) => {
    const problem = problemOf(error, request.url);
    if (problem.status >= 500) parts.log.error({ err: error, method: request.method, url: request.url }, 'request failed');
    return reply.status(problem.status).type('application/problem+json').send(JSON.stringify(problem));
  });
  app.setNotFoundHandler((request, reply) =>
    reply
      .status(404)
      .type('application/problem+json')
      .send(
        JSON.stringify({
          type: 'about:blank',
          title: 'Not found',
          status: 404,
          detail: `no such address: ${request.url}`,
          instance: request.url,
        }),
      ),
  );

  // A page of another site must not start runs through the visitor's browser.
  app.addHook('onRequest', async (request) => {
    const host = request.headers.host ?? '';
    if (parts.hosts && !parts.hosts.includes(host.replace(/:\d+$/, ''))) throw refused(`host ${JSON.stringify(host)} is not served here`);
    const { origin } = request.headers;
    if (origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`)
      throw refused(`requests from ${JSON.stringify(origin)} are not taken`);
  });

  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        connectSrc: ["'self'"],
        imgSrc: ["'self'"],
        baseUri: ["'none'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
      },
    },
    // Served over plain HTTP on this machine; a proxy that ends TLS sets its own.
    strictTransportSecurity: false,
  });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Millrace console',
        description: 'Jobs, runs and the fate of every item. Errors are RFC 9457 problem documents with a `code`.',
        version: '1.0.0',
      },
    },
  });

  const feed = new RunFeed(
    parts.ledger,
    parts.time,
    (error) => parts.log.warn({ error }, 'cannot read the ledger for the live view'),
    parts.jaegerUrl,
  );
  app.addHook('preClose', async () => feed.close());
  const commands = new Commands(
    parts.ledger,
    parts.publisher,
    parts.registry,
    parts.time,
    parts.random,
    parts.checkParams,
    parts.inboxRetention,
  );

  await app.register(async (scope) => {
    const typed = scope as unknown as App;
    jobRoutes(typed, parts, commands);
    runRoutes(typed, parts, commands);
    eventRoutes(typed, feed);
    pageRoutes(typed);
    typed.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
    typed.get('/livez', { schema: { hide: true } }, async () => ({ status: 'ok' }));
    typed.get('/metrics', { schema: { hide: true } }, async (_request, reply) => reply.type(METRICS_TYPE).send(await metricsText()));
    typed.get('/readyz', { schema: { hide: true } }, async (_request, reply) => {
      const reasons = [...(parts.notReady?.() ?? [])];
      await parts.ledger.ping().catch((error: unknown) => reasons.push(`ledger: ${messageOf(error)}`));
      return reply.status(reasons.length === 0 ? 200 : 503).send({ status: reasons.length === 0 ? 'ready' : 'not ready', reasons });
    });
  });
  await app.ready();
  return app;
}

function refused(detail: string): Error {
  return Object.assign(new MillraceError('MR2008', detail), { statusCode: 403 });
}
