/**
 * What does tracing cost? The same job on the same servers, in turn without tracing, with a collector that takes every span, and with one
 * that is away; and what the calls cost per chunk where tracing is off.
 *
 *     npx tsx bench/telemetry.ts --items 138398 --rounds 5
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { connectPostgres } from '@millrace/postgres';
import { freePort, startOtlpReceiver } from '@millrace/testing';
import { ChunkTraces } from '../services/processor/src/chunk-traces.ts';
import { sampleChunk } from '../services/processor/src/processor-samples.ts';
import { buildBundles } from './bundles.ts';
import { cpuSeconds } from './cost.ts';
import { openOnServers } from './millrace.ts';
import { startServers } from './servers.ts';
import { CREATE_TABLE, TABLE } from './workload.ts';

const { values } = parseArgs({ options: { items: { type: 'string', default: '138398' }, rounds: { type: 'string', default: '5' } } });
const items = Number(values.items);

await buildBundles();
const [servers, collector, away] = await Promise.all([startServers(), startOtlpReceiver(), freePort()]);
const protocol = { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json', OTEL_BSP_SCHEDULE_DELAY: '500' };
/** By then the spans of the run that warms up are exported: what a process pays once for its first export is not measured. */
const EXPORTED = 2_000;
const ways: Record<string, Record<string, string>> = {
  off: {},
  on: { ...protocol, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url },
  'on, collector away': { ...protocol, OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${away}` },
};
const seconds: Record<string, number[]> = {};
const cpu: Record<string, number[]> = {};
const byService: Record<string, Record<string, number[]>> = {};
const db = await connectPostgres({ url: servers.postgres.url });
try {
  await db.query(CREATE_TABLE);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [way, env] of Object.entries(ways)) {
      const opened = await openOnServers(servers, 1, env);
      try {
        await db.query(`truncate ${TABLE}`);
        await opened.run(20_000);
        await delay(EXPORTED);
        await db.query(`truncate ${TABLE}`);
        await db.query('checkpoint');
        const before = await cpuSeconds(opened.processes);
        const started = performance.now();
        await opened.run(items);
        (seconds[way] ??= []).push((performance.now() - started) / 1_000);
        const after = await cpuSeconds(opened.processes);
        (cpu[way] ??= []).push(sum(after) - sum(before));
        for (const [name, spent] of Object.entries(after)) ((byService[way] ??= {})[name] ??= []).push(spent - (before[name] ?? 0));
      } finally {
        await opened.close();
      }
    }
  }
} finally {
  await db.close();
  await Promise.all([servers.stop(), collector.close()]);
}

process.stdout.write(
  '| tracing | items/s, median | ratio, pair by pair | CPU s of the services, median | ratio, pair by pair | by service |\n|---|---|---|---|---|---|\n',
);
for (const way of Object.keys(ways)) {
  const [time, work, each] = [seconds[way] as number[], cpu[way] as number[], byService[way] ?? {}];
  const ratio = (own: number[], off: number[]) => median(own.map((value, i) => value / (off[i] as number))).toFixed(3);
  const services = Object.entries(each).map(([name, spent]) => `${name} ${median(spent).toFixed(2)}`);
  process.stdout.write(
    `| ${way} | ${Math.round(items / median(time)).toLocaleString('en')} | ${ratio(time, seconds['off'] as number[])} | ${median(work).toFixed(2)} | ${ratio(work, cpu['off'] as number[])} | ${services.join(' · ')} |\n`,
  );
}
process.stdout.write(`${collector.spans.length} spans received. Tracing off: ${perChunk().toFixed(1)} µs per chunk of 500 items.\n`);

/** Everything a processor does for the trace of one chunk, without an SDK. */
function perChunk(): number {
  const traces = new ChunkTraces('rabbitmq', { now: () => Date.now(), sleep: () => Promise.resolve() });
  const chunk = sampleChunk(500);
  const fact = {
    ...{ runId: chunk.runId, job: chunk.job, generation: 0, seq: 0, attempt: 1, size: 500, outcomes: '500a', failures: [], skips: {} },
    settledAt: 0,
    timing: { queued: 1, process: 1, commit: 1 },
  };
  const rounds = 20_000;
  const once = () => {
    const trace = traces.begin(chunk, {}, Date.now(), 1);
    trace.enter('process')();
    trace.enter('commit')();
    traces.settled(trace, fact);
  };
  for (let i = 0; i < rounds; i++) once();
  const started = performance.now();
  for (let i = 0; i < rounds; i++) once();
  return ((performance.now() - started) * 1_000) / rounds;
}

function sum(byProcess: Record<string, number>): number {
  return Object.values(byProcess).reduce((total, one) => total + one, 0);
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1] as number;
}
