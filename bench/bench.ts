/**
 * How fast is the whole job: plan N items, hash each, write one row for each exactly once, know what became of all? Millrace, its
 * peers and the limits take turns on the same private servers; see docs/performance.md.
 *
 *     npm run bench -- --items 200000 --rounds 3 --only millrace,graphile-worker
 *     npm run bench -- --builds before=../other-checkout --only before,millrace
 *     npm run bench -- --apart --rounds 40 --only millrace,bullmq-chunks
 *     npm run bench -- --scenario latency,slow,failing,flat,recovery
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { connectPostgres, type Database } from '@millrace/postgres';
import { buildBundles } from './bundles.ts';
import { chart } from './chart.ts';
import type { Contender, Opened } from './contender.ts';
import { cpuSeconds, peakMemory } from './cost.ts';
import { limits } from './limits.ts';
import { builtElsewhere, embedded, onQuorumQueues, onServers } from './millrace.ts';
import { peerContenders } from './peers.ts';
import { type Measurement, summarise, table } from './report.ts';
import { runScenarios } from './scenarios.ts';
import { type Servers, serverProcesses, startServers } from './servers.ts';
import { CREATE_TABLE, TABLE } from './workload.ts';

const { values } = parseArgs({
  options: {
    items: { type: 'string', default: '50000' },
    rounds: { type: 'string', default: '3' },
    warm: { type: 'string', default: '20' },
    apart: { type: 'boolean', default: false },
    only: { type: 'string' },
    builds: { type: 'string' },
    scenario: { type: 'string' },
    out: { type: 'string', default: 'bench/dist' },
  },
});
/** Small runs, so that nobody warms up for much longer than asked. */
const WARM_ITEMS = 10_000;
const items = Number(values.items);
const STATEMENTS = Boolean(process.env['BENCH_STATEMENTS']);
const only = values.only?.split(',');
const builds = values.builds?.split(',').map(builtElsewhere) ?? [];
const all: readonly Contender[] = [...builds, onServers(1), onServers(2), onQuorumQueues, embedded, ...peerContenders, ...limits];
const contenders: Contender[] = all.filter(({ name }) => !only || only.includes(name));
const unknown = only?.filter((name) => !all.some((contender) => contender.name === name)) ?? [];
if (unknown.length > 0 || contenders.length === 0)
  throw new Error(`--only ${unknown.join(',')}: known are ${all.map(({ name }) => name).join(', ')}`);

await buildBundles();
const servers = await startServers();
const db = await connectPostgres({ url: servers.postgres.url });
const measurements: Measurement[] = [];
/** Of contenders that keep theirs from round to round. */
const stands = new Map<Contender, Stand>();
try {
  await prepare(db);
  if (values.scenario !== undefined) {
    await runScenarios(values.scenario.split(','), servers);
    contenders.splice(0);
  }
  if (values.apart) for (const contender of contenders) stands.set(contender, await openApart(contender));
  for (let round = 1; round <= Number(values.rounds); round++) {
    // There and back, so that nobody is always behind the same one.
    for (const contender of round % 2 === 1 ? contenders : contenders.toReversed()) {
      const stand = stands.get(contender) ?? (await open(contender, servers, db));
      const measurement = await measure(stand).finally(() => (stands.has(contender) ? undefined : stand.close()));
      measurements.push(measurement);
      process.stderr.write(`round ${round}: ${contender.label}: ${Math.round(items / measurement.seconds).toLocaleString('en')} items/s\n`);
    }
  }
} finally {
  for (const stand of stands.values()) await stand.close();
  await db.close();
  await servers.stop();
}

if (contenders.length === 0) process.exit(0);
const summary = summarise(contenders, measurements, items);
mkdirSync(values.out, { recursive: true });
writeFileSync(
  `${values.out}/bench.json`,
  `${JSON.stringify({ items, rounds: Number(values.rounds), node: process.version, contenders: summary, measurements }, undefined, 1)}\n`,
);
writeFileSync(
  `${values.out}/bench.svg`,
  chart(summary, `Items per second, ${items.toLocaleString('en')} items, median of ${values.rounds}`),
);
process.stdout.write(table(summary, items, Number(values.rounds)));

/** A contender at work: its processes, and the servers that they use. */
interface Stand {
  readonly contender: Contender;
  readonly opened: Opened;
  readonly servers: Servers;
  readonly db: Database;
  close(): Promise<void>;
}

/** Fresh processes, and `--warm` seconds of runs that warm them up as those of production are. */
async function open(contender: Contender, servers: Servers, db: Database): Promise<Stand> {
  const opened = await contender.open(servers);
  try {
    await empty(db);
    for (const until = performance.now() + Number(values.warm) * 1_000; performance.now() < until; ) {
      await opened.run(WARM_ITEMS);
      await empty(db);
    }
  } catch (error) {
    await opened.close();
    throw error;
  }
  return { contender, opened, servers, db, close: () => opened.close() };
}

/** With servers of its own, to stay: rounds follow each other within seconds, and what slows the machine down for minutes slows down everybody. */
async function openApart(contender: Contender): Promise<Stand> {
  const servers = await startServers();
  const db = await connectPostgres({ url: servers.postgres.url });
  const stop = async () => {
    await db.close();
    await servers.stop();
  };
  try {
    await prepare(db);
    const stand = await open(contender, servers, db);
    return { ...stand, close: () => stand.close().then(stop) };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The run that counts. */
async function measure({ contender, opened, servers, db }: Stand): Promise<Measurement> {
  await empty(db);
  // What a contender before has left to be written must not be on this one's account.
  await db.query('checkpoint');
  const processes = { ...opened.processes, ...serverProcesses(servers, contender.uses) };
  const before = await cpuSeconds(processes);
  if (STATEMENTS) await db.query('select pg_stat_statements_reset()');
  profile(opened);
  const started = performance.now();
  await opened.run(items);
  const seconds = (performance.now() - started) / 1_000;
  profile(opened);
  const after = await cpuSeconds(processes);
  if (STATEMENTS) await statements(db);
  if (contender.writes) await expectRows(db, contender);
  return {
    name: contender.name,
    seconds,
    cpu: Object.fromEntries(Object.entries(after).map(([name, total]) => [name, total - (before[name] ?? 0)])),
    memory: await peakMemory(opened.processes),
  };
}

/** What PostgreSQL was asked to do, busiest first. */
async function statements(db: Database): Promise<void> {
  const { rows } = await db.query<{ calls: string; ms: number; rows: string; wal: string; query: string }>(
    'select calls, total_exec_time as ms, rows, wal_bytes as wal, query from pg_stat_statements order by total_exec_time desc limit 25',
  );
  for (const { calls, ms, rows: touched, wal, query } of rows)
    process.stderr.write(
      `${calls.padStart(7)} calls ${ms.toFixed(0).padStart(6)} ms ${touched.padStart(8)} rows ${wal.padStart(10)} B of WAL  ${query.replace(/\s+/g, ' ').slice(0, 110)}\n`,
    );
}

/** Starts the profilers, or ends them; see profile.ts. */
function profile({ processes }: Opened): void {
  if (!process.env['BENCH_PROFILE']) return;
  for (const pid of Object.values(processes).flat()) process.kill(pid, 'SIGUSR2');
}

async function prepare(db: Database): Promise<void> {
  await db.query(CREATE_TABLE);
  if (STATEMENTS) await db.query('create extension if not exists pg_stat_statements');
}

async function empty(db: Database): Promise<void> {
  await db.query(`truncate ${TABLE}`);
}

async function expectRows(db: Database, { label }: Contender): Promise<void> {
  const { rows } = await db.query<{ rows: string; different: string }>(
    `select count(*) as rows, count(distinct id) as different from ${TABLE}`,
  );
  if (Number(rows[0]?.rows) !== items || Number(rows[0]?.different) !== items)
    throw new Error(`${label} left ${JSON.stringify(rows[0])} of ${items} rows`);
}
