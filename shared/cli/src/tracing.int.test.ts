import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { connectPostgres, type Database } from '@millrace/postgres';
import {
  freePort,
  type OtlpReceiver,
  type ReceivedSpan,
  startNats,
  startOtlpReceiver,
  startPostgres,
  startRabbit,
  type TestServer,
  waitFor,
} from '@millrace/testing';
import { MillraceProcess, millrace } from './millrace-process.ts';

const execute = promisify(execFile);
const SERVICES = ['clock', 'clock', 'planner', 'processor', 'audit', 'console'];
const PRODUCER = 4;
const CONSUMER = 5;
const INTERNAL = 1;
const ERROR = 2;

describe('the trace of a run, on RabbitMQ, NATS JetStream and PostgreSQL', () => {
  const processes: MillraceProcess[] = [];
  let rabbit: TestServer;
  let nats: TestServer;
  let postgres: TestServer;
  let collector: OtlpReceiver;
  let db: Database;
  let env: Record<string, string>;
  const ports: number[] = [];

  beforeAll(async () => {
    [rabbit, nats, postgres, collector] = await Promise.all([startRabbit(), startNats(), startPostgres(), startOtlpReceiver()]);
    env = {
      AMQP_URL: rabbit.url,
      NATS_URL: nats.url,
      DATABASE_URL: postgres.url,
      MILLRACE_HTTP_PORT: String(await freePort()),
      MILLRACE_JOBS: fileURLToPath(new URL('./tracing.job.ts', import.meta.url)),
      MILLRACE_JAEGER_URL: 'http://jaeger.example:16686/',
    };
    expect(await millrace(['migrate'], env)).toMatchObject({ code: 0 });
    db = await connectPostgres({ url: postgres.url });
    for (const service of SERVICES) {
      const port = await freePort();
      ports.push(port);
      processes.push(
        new MillraceProcess(['start', service], {
          ...env,
          MILLRACE_HEALTH_PORT: String(port),
          OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
          OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
          OTEL_BSP_SCHEDULE_DELAY: '100',
        }),
      );
    }
  }, 120_000);

  afterAll(async () => {
    await Promise.all(processes.map((one) => one.end('SIGKILL')));
    await db?.close();
    await Promise.all([rabbit, nats, postgres].map((server) => server?.stop()));
    await collector?.close();
  }, 60_000);

  /** Commands go through the console, so that it is the one who sends. */
  const ask = (...args: string[]) =>
    new MillraceProcess(args, { ...env, MILLRACE_URL: `http://127.0.0.1:${env['MILLRACE_HTTP_PORT']}` }).finished;

  const ofTrace = (traceId: string) => collector.spans.filter((span) => span.traceId === traceId);
  const named = (spans: readonly ReceivedSpan[], name: string) => spans.filter((span) => span.name === name);
  /** The one span of that name below `parent`. */
  const child = (parent: ReceivedSpan, name: string): ReceivedSpan => {
    const found = named(ofTrace(parent.traceId), name).filter((span) => span.parentSpanId === parent.spanId);
    expect([name, found.length]).toEqual([name, 1]);
    return found[0] as ReceivedSpan;
  };
  test('reads from tick to close, over five services, and the dependent links to its cause', async () => {
    const spansOf = (run: string) => collector.spans.filter((span) => span.attributes['millrace.run.id'] === run);
    const count = (run: string, name: string) => named(spansOf(run), name).length;
    // Each process exports on its own: take the first run of which every process has told its part, and that met no redelivery.
    let cause = '';
    await waitFor(
      async () => {
        const { rows } = await db.query<{ tick: string }>(
          `select tick from audit.runs where job = 'after-ticking' and state = 'closed' order by opened_at`,
        );
        cause =
          rows
            .map(({ tick }) => `ticking@${tick}`)
            .find(
              (run) =>
                count(run.replace('ticking@', 'after-ticking@'), 'admit millrace.facts.run.closed.ticking') === 1 &&
                ['admit millrace.ticks.ticking', 'plan ticking', 'close millrace.facts.run.closed.ticking'].every(
                  (name) => count(run, name) === 1,
                ) &&
                ['dispatch millrace.chunks.ticking', 'chunk millrace.chunks.ticking'].every((name) => count(run, name) === 2) &&
                count(run, 'settle millrace.facts') >= 2,
            ) ?? '';
        return cause !== '';
      },
      { timeout: 120_000, what: 'a run whose spans are all there' },
    );
    const runId = cause.replace('ticking@', 'after-ticking@');

    const [admit] = named(spansOf(cause), 'admit millrace.ticks.ticking') as [ReceivedSpan];
    const tick = ofTrace(admit.traceId).find((span) => span.spanId === admit.parentSpanId) as ReceivedSpan;
    expect(tick).toMatchObject({ name: 'tick millrace.ticks.ticking', service: 'millrace-clock', kind: PRODUCER, parentSpanId: '' });
    expect(tick.attributes).toMatchObject({
      'messaging.system': 'nats',
      'messaging.operation.name': 'tick',
      'messaging.operation.type': 'send',
      'messaging.destination.name': 'millrace.ticks.ticking',
      'millrace.job': 'ticking',
      'millrace.tick': cause.slice('ticking@'.length),
    });
    expect(admit).toMatchObject({ service: 'millrace-planner', kind: CONSUMER });
    const plan = child(admit, 'plan ticking');
    expect(plan).toMatchObject({ service: 'millrace-planner', kind: INTERNAL });
    expect(plan.attributes).toMatchObject({ 'millrace.plan.chunks': 1, 'millrace.plan.items': 3, 'millrace.plan.result': 'sealed' });
    const dispatch = child(plan, 'dispatch millrace.chunks.ticking');
    expect(dispatch).toMatchObject({ service: 'millrace-planner', kind: PRODUCER });
    expect(dispatch.attributes).toMatchObject({ 'messaging.system': 'rabbitmq', 'messaging.batch.message_count': 1 });
    const chunk = child(dispatch, 'chunk millrace.chunks.ticking');
    expect(chunk).toMatchObject({ service: 'millrace-processor', kind: CONSUMER, status: ERROR });
    expect(chunk.attributes).toMatchObject({
      'messaging.system': 'rabbitmq',
      'messaging.operation.type': 'process',
      'millrace.chunk.id': `${cause}/0/0`,
      'millrace.attempt': 1,
      'millrace.items.applied': 1,
      'millrace.items.failed': 1,
      'millrace.items.to_retry': 1,
    });
    const stages = ['queue wait', 'process', 'commit'].map((stage) => child(chunk, stage));
    for (const stage of stages) {
      expect(stage.service).toBe('millrace-processor');
      expect(stage.start >= chunk.start && stage.end <= chunk.end).toBe(true);
    }
    expect(child(chunk, 'settle millrace.facts')).toMatchObject({ service: 'millrace-audit', kind: CONSUMER });

    // The retry goes on in the same trace, from the row of the run.
    const retried = named(spansOf(cause), 'dispatch millrace.chunks.ticking').find(
      (span) => span.attributes['millrace.retry'] === true,
    ) as ReceivedSpan;
    expect(retried).toMatchObject({ traceId: tick.traceId, parentSpanId: admit.spanId });
    expect(child(retried, 'chunk millrace.chunks.ticking').attributes).toMatchObject({
      'millrace.attempt': 2,
      'millrace.items.applied': 2,
    });

    // The failing items have traces of their own, linked both ways.
    const items = named(collector.spans, 'item ticking').filter((span) => span.links.some((link) => link.spanId === chunk.spanId));
    expect(items.map((item) => item.attributes['millrace.item.key']).sort()).toEqual(['bad', 'late']);
    for (const item of items) {
      expect(item).toMatchObject({ parentSpanId: '', status: ERROR, service: 'millrace-processor' });
      expect(item.traceId).not.toBe(tick.traceId);
      expect(chunk.links).toContainEqual({ traceId: item.traceId, spanId: item.spanId });
    }
    expect(items.find((item) => item.attributes['millrace.item.key'] === 'bad')?.events).toEqual([
      { name: 'exception', attributes: { 'exception.type': 'rejected', 'exception.message': 'never any good' } },
    ]);

    const close = child(admit, 'close millrace.facts.run.closed.ticking');
    expect(close).toMatchObject({ service: 'millrace-audit', kind: PRODUCER });
    expect(close.attributes).toMatchObject({ 'millrace.verdict': 'partial', 'millrace.items.applied': 2, 'millrace.items.rejected': 1 });

    const [dependent] = named(spansOf(runId), 'admit millrace.facts.run.closed.ticking') as [ReceivedSpan];
    expect(dependent).toMatchObject({
      service: 'millrace-planner',
      parentSpanId: '',
      links: [{ traceId: close.traceId, spanId: close.spanId }],
    });
    expect(dependent.traceId).not.toBe(close.traceId);
  }, 180_000);

  test('138,398 items, both brokers restarted in mid-run: one trace of less than 1,000 spans, with the first, the last and the failing chunk', async () => {
    const run = ask('run', 'bulk', '--key', 'big', '--wait', '--timeout', '150s', '-o', 'json');
    await waitFor(async () => (await db.query(`select 1 from audit.chunks where run_id = 'bulk@manual:big' limit 20`)).rows.length === 20, {
      timeout: 60_000,
      what: 'a run in its middle',
    });
    await Promise.all([rabbit.restart(), nats.restart()]);
    const { code, stdout, stderr } = await run;
    expect([code, stderr]).toEqual([5, expect.anything()]);
    const report = JSON.parse(stdout);
    expect(report.counts).toMatchObject({ planned: 138_398, applied: 138_397, rejected: 1 });
    expect(report.traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(report.traceUrl).toBe(`http://jaeger.example:16686/trace/${report.traceId}`);
    const shown = await millrace(['runs', 'show', 'bulk@manual:big'], env);
    expect(shown.stdout).toContain(`trace http://jaeger.example:16686/trace/${report.traceId}`);

    const spans = () => ofTrace(report.traceId);
    await waitFor(() => named(spans(), 'close millrace.facts.run.closed.bulk').length > 0, { timeout: 30_000, what: 'the close span' });
    const { rows } = await db.query<{ last: number }>(
      `select (extract(epoch from max(settled_at)) * 1000)::float8 as last from audit.chunks where run_id = 'bulk@manual:big'`,
    );
    const last = BigInt(Math.floor(rows[0]?.last ?? Number.POSITIVE_INFINITY)) * 1_000_000n;
    const kept = () => named(spans(), 'chunk millrace.chunks.bulk');
    await waitFor(() => kept().some(({ end }) => end >= last), { timeout: 30_000, what: 'the last chunk' });
    expect(kept().map((span) => span.attributes['millrace.chunk.id'])).toEqual(
      expect.arrayContaining(['bulk@manual:big/0/0', 'bulk@manual:big/0/140']),
    );
    expect(spans().length).toBeLessThan(1_000);
    // Whatever was done for the run on either side of the restart is in its one trace; failing items have their own.
    const strays = collector.spans.filter(
      (span) => span.attributes['millrace.run.id'] === 'bulk@manual:big' && span.traceId !== report.traceId,
    );
    expect(strays.filter((span) => span.name !== 'item bulk')).toEqual([]);
    expect(new Set(spans().map((span) => span.service))).toEqual(
      new Set(['millrace-planner', 'millrace-processor', 'millrace-audit', 'millrace-console']),
    );
  }, 240_000);

  test('/metrics of every service has the names of the contract, and no run or item in a label', async () => {
    const pages = await Promise.all(ports.map(async (port) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()));
    const page = (service: string) => pages[SERVICES.indexOf(service)] as string;
    for (const each of pages) expect(each).toMatch(/^millrace_build_info\{[^}]*version="[^"]+"[^}]*\} 1$/m);
    expect(page('planner')).toMatch(/^millrace_ticks_total\{job="ticking",result="ran"\} [1-9]/m);
    expect(page('planner')).toMatch(/^millrace_tick_lag_seconds_count\{job="ticking"\} [1-9]/m);
    expect(page('planner')).toContain('millrace_oldest_item_age_seconds');
    for (const stage of ['queue', 'process', 'commit'])
      expect(page('processor')).toMatch(new RegExp(`^millrace_item_duration_seconds_count\\{job="bulk",stage="${stage}"\\} [1-9]`, 'm'));
    expect(page('audit')).toMatch(/^millrace_items_total\{job="bulk",outcome="applied"\} 138397$/m);
    expect(page('audit')).toMatch(/^millrace_run_duration_seconds_count\{job="bulk",verdict="failed"\} 1$/m);
    expect(page('audit')).toMatch(/^millrace_ledger_unaccounted_items\{job="bulk"\} 0$/m);
    expect(page('audit')).toMatch(/^millrace_run_last_success_timestamp_seconds\{job="after-ticking"\} \d+/m);
    for (const each of pages) expect(each).not.toMatch(/manual:|bulk@|ticking@|never any good/);
  }, 30_000);

  test('every command of docs/observability.md works as it stands there', async () => {
    const page = readFileSync(new URL('../../../docs/observability.md', import.meta.url), 'utf8');
    const commands = [...page.matchAll(/^```sh\n(.*?)^```/gms)].flatMap(([, block]) => (block as string).trim().split('\n'));
    expect(commands).toHaveLength(3);
    const data = mkdtempSync(join(tmpdir(), 'millrace-'));
    const before = collector.spans.length;
    try {
      const here = [
        ['http://localhost:4318', collector.url],
        ['http://localhost:4400', `http://127.0.0.1:${env['MILLRACE_HTTP_PORT']}`],
        ['sunrise-table@2026-11-24T00:10:00Z', 'bulk@manual:big'],
      ] as const;
      for (const command of commands) {
        const line = here.reduce((text, [written, actual]) => text.replace(written, actual), command);
        const embedded = line.includes('npm start');
        const rest = { ...process.env, NODE_OPTIONS: '', OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' };
        const { stdout } = await execute('sh', ['-c', line], {
          cwd: fileURLToPath(new URL('../../..', import.meta.url)),
          env: { ...rest, ...(embedded ? { MILLRACE_DATA: data, MILLRACE_HTTP_PORT: '0', MILLRACE_JOBS: env['MILLRACE_JOBS'] } : env) },
        }).catch((error: { code: number; stdout: string }) => {
          // The jobs of this test end partial.
          if (error.code !== 6) throw error;
          return error;
        });
        expect(stdout).toMatch(embedded ? /ticking@\S+ partial/ : /trace http|millrace_build_info/);
      }
      expect(collector.spans.slice(before).map((span) => [span.service, span.name])).toContainEqual(['millrace-dev', 'plan ticking']);
    } finally {
      rmSync(data, { recursive: true, force: true });
    }
  }, 120_000);

  test('a collector that never answers neither stops a run nor holds up the end of a process', async () => {
    const silent = await startOtlpReceiver({ silent: true });
    try {
      const processor = new MillraceProcess(['start', 'processor'], {
        ...env,
        OTEL_EXPORTER_OTLP_ENDPOINT: silent.url,
        OTEL_BSP_SCHEDULE_DELAY: '50',
      });
      processes.push(processor);
      const before = processes.findIndex((_, i) => SERVICES[i] === 'processor');
      await (processes[before] as MillraceProcess).end('SIGTERM');
      const { code, stdout } = await millrace(['run', 'after-ticking', '--key', 'silent', '--wait', '--timeout', '60s', '-o', 'json'], env);
      expect([code, JSON.parse(stdout).verdict]).toEqual([0, 'succeeded']);
      await waitFor(() => silent.requests > 0, { timeout: 20_000, what: 'an export' });
      expect((await processor.end('SIGTERM')).code).toBe(0);
    } finally {
      await silent.close();
    }
  }, 120_000);
});
