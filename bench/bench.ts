/**
 * How fast is sunrise-table, embedded and on servers, against a plain COPY of the same rows into the same database? Rounds are
 * interleaved, servers are private and durable. The machine is noisy: read the ratios.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectPostgres, type Database, openPglite } from '@millrace/postgres';
import { startNats, startPostgres, startRabbit, waitFor } from '@millrace/testing';
import { MillraceProcess, millrace } from '../shared/cli/src/millrace-process.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 3);
const COLUMNS = ['city_id', 'name', 'country', 'day', 'sunrise', 'sunset', 'day_length_s'];
const results: Record<string, number[]> = {};

const [rabbit, nats, postgres] = await Promise.all([startRabbit(), startNats(), startPostgres({ durable: true })]);
const env = { AMQP_URL: rabbit.url, NATS_URL: nats.url, DATABASE_URL: postgres.url, MILLRACE_HTTP_PORT: '0' };
await millrace(['migrate'], env);
const services = ['clock', 'planner', 'processor', 'audit', 'console'].map((service) => new MillraceProcess(['start', service], env));
const db = await connectPostgres({ url: postgres.url });
try {
  await waitFor(() => services.every((service) => service.stderr.includes(' started')), { timeout: 60_000 });
  for (let round = 0; round < ROUNDS; round++) {
    await embedded();
    const { code, stdout, stderr } = await millrace(['run', 'sunrise-table', '--key', `bench-${round}`, '--wait', '-o', 'json'], env);
    if (code !== 0) throw new Error(stderr);
    record('servers: Millrace, one processor', JSON.parse(stdout).itemsPerSecond);
    await copyLimit(db, 'servers: one plain COPY');
  }
} finally {
  await db.close();
  await Promise.all(services.map((service) => service.end('SIGTERM')));
  await Promise.all([rabbit, nats, postgres].map((server) => server.stop()));
}

const medians = Object.fromEntries(
  Object.entries(results).map(([name, rates]) => [name, rates.sort((a, b) => a - b)[rates.length >> 1] as number]),
);
const rows = Object.entries(medians).map(([name, rate]) => {
  const limit = medians[name.startsWith('embedded') ? 'embedded: one plain COPY' : 'servers: one plain COPY'] as number;
  return `| ${name} | ${Math.round(rate).toLocaleString('en')} | ${(rate / limit).toFixed(2)} |`;
});
process.stdout.write(`| what (138,398 items, median of ${ROUNDS}) | items/s | ratio to COPY |\n|---|---|---|\n${rows.join('\n')}\n`);

async function embedded(): Promise<void> {
  const data = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
  try {
    const { stdout } = await millrace(['dev', '--once', '-o', 'jsonl'], { MILLRACE_DATA: data, MILLRACE_HTTP_PORT: '0' });
    const run = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .find((report) => report.job === 'sunrise-table');
    record('embedded: Millrace', run.itemsPerSecond);
    const pglite = await openPglite({ directory: data });
    await copyLimit(pglite, 'embedded: one plain COPY');
    await pglite.close();
  } finally {
    rmSync(data, { recursive: true, force: true });
  }
}

/** The rows that the job wrote, into an empty table with the same key, in one COPY. */
async function copyLimit(database: Database, name: string): Promise<void> {
  const { rows } = await database.query(`select ${COLUMNS.join(', ')} from sunrise`);
  await database.query('create table copied (like sunrise including all)');
  const values = rows.map((row) => COLUMNS.map((column) => row[column]));
  const started = performance.now();
  await database.transaction((tx) => tx.copy('copied', COLUMNS, values));
  record(name, (rows.length * 1_000) / (performance.now() - started));
  await database.query('drop table copied');
}

function record(name: string, rate: number): void {
  results[name] ??= [];
  results[name].push(rate);
}
