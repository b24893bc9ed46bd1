/**
 * Speed, guarded by what does not depend on the machine: how much work a run of 20,000 items makes. More statements, messages, bytes or
 * JSON than bench/budget.json allows per 10,000 items is a regression; far less means that the budget has become worthless.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
// Loaded here, one after the other: Jest loses its way when `compose` imports them at once.
import '@millrace/audit';
import '@millrace/planner';
import '@millrace/processor';
import '@millrace/clock';
import '@millrace/console';
import { done, RunClosed, Trigger } from '@millrace/core';
import type { EventBroker, Publisher, WorkBroker } from '@millrace/messaging';
import { type Database, migrate, type Queryable } from '@millrace/postgres';
import type { Platform } from '@millrace/runtime';
import { startNats, startPostgres, startRabbit, type TestServer, waitFor } from '@millrace/testing';
import { checksum } from '../../../bench/jobs/checksum/job.ts';
import { compose, startAll, stopAll } from './compose.ts';
import { migrationSets } from './migrations.ts';
import { localConfig, openLocal } from './open-local.ts';

const ITEMS = 20_000;
/** Below this part of its budget, a count says that the budget is too loose to guard anything. */
const LOOSE = 0.2;
const BUDGET = JSON.parse(readFileSync(new URL('../../../bench/budget.json', import.meta.url), 'utf8')) as Record<
  'embedded' | 'servers',
  Work
>;

interface Work {
  /** SQL statements, and the times that somebody waited for the database. */
  statements: number;
  roundTrips: number;
  /** What was handed to the database: parameters and rows. */
  databaseBytes: number;
  workMessages: number;
  workBytes: number;
  facts: number;
  factBytes: number;
  /** Calls and characters of JSON.parse and JSON.stringify. */
  parses: number;
  parsedBytes: number;
  stringifies: number;
  stringifiedBytes: number;
}

const servers: TestServer[] = [];
const before = { ...process.env };
let data: string;

beforeAll(() => {
  data = mkdtempSync(join(tmpdir(), 'millrace-work-'));
});
afterAll(async () => {
  process.env = before;
  await Promise.all(servers.map((server) => server.stop()));
  rmSync(data, { recursive: true, force: true });
}, 60_000);

test('embedded, a run stays within its budget of work', async () => {
  process.env = { ...before, MILLRACE_DATA: data };
  expectWithin(await workOfRun(), BUDGET.embedded);
}, 120_000);

test('on servers, a run stays within its budget of work', async () => {
  servers.push(...(await Promise.all([startRabbit(), startNats(), startPostgres()])));
  const [rabbit, nats, postgres] = servers.map(({ url }) => url);
  process.env = { ...before, AMQP_URL: rabbit, NATS_URL: nats, DATABASE_URL: postgres };
  expectWithin(await workOfRun(), BUDGET.servers);
}, 180_000);

function expectWithin(work: Work, budget: Work): void {
  process.stderr.write(`work per 10,000 items: ${JSON.stringify(work)}\n`);
  const names = Object.keys(budget) as (keyof Work)[];
  const over = names.filter((name) => work[name] > budget[name]);
  const loose = names.filter((name) => work[name] < budget[name] * LOOSE);
  expect({ work, over, loose }).toEqual({ work, over: [], loose: [] });
}

/** What all services of one process did for a run, per 10,000 items. */
async function workOfRun(): Promise<Work> {
  const config = await localConfig('warn');
  const opened = await openLocal({ ...config, platform: { ...config.platform, jobs: CHECKSUM } }, 'test', {});
  const work = noWork();
  const platform = counted(opened, work);
  const restore = countJson(work);
  try {
    if (config.mode === 'servers') await migrate(opened.database, migrationSets);
    const services = await compose(platform, { scheduled: true, firstTick: 'next', alone: true, settings: config.services });
    await startAll(services);
    const closed: RunClosed[] = [];
    await opened.events.subscribe('millrace.facts.run.closed.>', { durable: 'work-count' }, async (deliveries) =>
      deliveries.map((delivery) => {
        const read = RunClosed.read(delivery);
        if (read.ok) closed.push(read.message.data);
        return done;
      }),
    );
    const now = platform.time.now();
    Object.assign(work, noWork());
    await platform.events.publish([
      Trigger.envelope({ job: checksum.name, key: 'count', requestedAt: now, params: { items: ITEMS } }, now),
    ]);
    await waitFor(() => closed.length > 0, { timeout: 90_000, interval: 20, what: 'the end of the run' });
    expect(closed[0]).toMatchObject({ verdict: 'succeeded', counts: { applied: ITEMS } });
    const counts = Object.fromEntries(Object.entries(work).map(([name, count]) => [name, Math.round((count * 10_000) / ITEMS)]));
    await stopAll(services, 5_000);
    return counts as unknown as Work;
  } finally {
    restore();
    await opened.close();
  }
}

const CHECKSUM = new URL('../../../bench/jobs/checksum/job.ts', import.meta.url).pathname;

function noWork(): Work {
  return {
    statements: 0,
    roundTrips: 0,
    databaseBytes: 0,
    workMessages: 0,
    workBytes: 0,
    facts: 0,
    factBytes: 0,
    parses: 0,
    parsedBytes: 0,
    stringifies: 0,
    stringifiedBytes: 0,
  };
}

function counted(platform: Platform, work: Work): Platform {
  const ask = (statements: number, handed: unknown) => {
    work.statements += statements;
    work.roundTrips++;
    work.databaseBytes += bytesOf(handed);
  };
  const query =
    (db: Queryable): Queryable['query'] =>
    (sql, params) => {
      ask(1, params);
      return db.query(sql, params);
    };
  const { database } = platform;
  const countedDatabase: Database = {
    kind: database.kind,
    close: () => database.close(),
    query: query(database),
    queryAndCopy: (...args) => {
      ask(2, [args[1], args[4]]);
      return database.queryAndCopy(...args);
    },
    transaction: (transact) => {
      ask(1, undefined);
      ask(1, undefined);
      return database.transaction((tx) =>
        transact({
          query: query(tx),
          copy: (table, columns, rows) => {
            ask(1, rows);
            return tx.copy(table, columns, rows);
          },
        }),
      );
    },
  };
  return {
    ...platform,
    database: countedDatabase,
    work: countPublished<WorkBroker>(platform.work, (messages, bytes) => {
      work.workMessages += messages;
      work.workBytes += bytes;
    }),
    events: countPublished<EventBroker>(platform.events, (messages, bytes) => {
      work.facts += messages;
      work.factBytes += bytes;
    }),
  };
}

function countPublished<Broker extends Publisher>(broker: Broker, count: (messages: number, bytes: number) => void): Broker {
  const publish: Publisher['publish'] = (messages, options) => {
    count(
      messages.length,
      messages.reduce((sum, { body }) => sum + body.byteLength, 0),
    );
    return broker.publish(messages, options);
  };
  // A method of a class with private fields must be called on the object itself.
  return new Proxy(broker, {
    get(target, name) {
      if (name === 'publish') return publish;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

function bytesOf(value: unknown): number {
  if (Array.isArray(value)) return value.reduce<number>((sum, one) => sum + bytesOf(one), 0);
  return value === null || value === undefined ? 0 : String(value).length;
}

function countJson(work: Work): () => void {
  const { parse, stringify } = JSON;
  JSON.parse = (text: string, ...rest: []) => {
    work.parses++;
    work.parsedBytes += String(text).length;
    return parse(text, ...rest);
  };
  JSON.stringify = ((value: unknown, ...rest: []) => {
    const text = stringify(value, ...rest);
    work.stringifies++;
    work.stringifiedBytes += text?.length ?? 0;
    return text;
  }) as typeof JSON.stringify;
  return () => Object.assign(JSON, { parse, stringify });
}
