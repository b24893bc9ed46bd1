import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { chunkQueue, done, type Envelope, JOBS_BUCKET, PARKED_QUEUE } from '@millrace/core';
import { connectJetStream, connectRabbit, type EventBroker, type WorkBroker } from '@millrace/messaging';
import { startNats, startRabbit, type TestServer, waitFor } from '@millrace/testing';
import { connect } from 'nats';

const HERE = import.meta.dirname;
/** The volumes of an installation, as the one-shot `secrets` fills them. */
const volumes = mkdtempSync(join(tmpdir(), 'millrace-secrets-'));
const secrets = () => execFileSync(process.execPath, [join(HERE, 'secrets.mjs'), volumes], { stdio: 'pipe' });
const read = (reader: string, file: string) => readFileSync(join(volumes, reader, file), 'utf8');

const servers: TestServer[] = [];
const open: { close(): Promise<void> }[] = [];
beforeAll(() => void secrets());
afterAll(async () => {
  for (const one of open) await one.close();
  for (const server of servers) await server.stop();
  rmSync(volumes, { recursive: true, force: true });
});

let count = 0;
const message = (subject: string): Envelope => ({ id: `m${++count}`, subject, headers: {}, body: Buffer.from('{}') });

test('every service has another password on every server, and a second start keeps them', () => {
  const files = [
    'clock/NATS_URL',
    'planner/NATS_URL',
    'planner/AMQP_URL',
    'planner/DATABASE_URL',
    'console/NATS_URL',
    'migrate/DATABASE_URL',
  ];
  const urls = () => files.map((file) => read(...(file.split('/') as [string, string])));
  const first = urls();
  expect(new Set(first.map((url) => new URL(url).password)).size).toBe(files.length);
  secrets();
  expect(urls()).toEqual(first);
});

describe('NATS', () => {
  let server: TestServer;
  const urlOf = (service: string) => {
    const url = new URL(read(service, 'NATS_URL'));
    url.host = new URL(server.url).host;
    return url.href;
  };
  const as = async (service: string): Promise<EventBroker> => {
    const broker = await connectJetStream({ url: urlOf(service), inbox: `_INBOX_${service}` });
    open.push(broker);
    return broker;
  };

  beforeAll(async () => {
    cpSync(join(HERE, 'nats', 'nats.conf'), join(volumes, 'nats.conf'));
    cpSync(join(volumes, 'nats'), join(volumes, 'secrets'), { recursive: true });
    server = await startNats({ config: join(volumes, 'nats.conf') });
    servers.push(server);
  });

  test('who may not make streams waits for the planner, which may', async () => {
    const processor = await as('processor');
    const told = processor.publish([message('millrace.facts.chunk.settled.hello')]);
    await as('planner');
    await told;
  });

  test('each service can do its work', async () => {
    const [clock, planner, processor, audit, console] = await Promise.all(['clock', 'planner', 'processor', 'audit', 'console'].map(as));
    await planner?.bucket(JOBS_BUCKET).put('hello', '{}');
    expect([...((await clock?.bucket(JOBS_BUCKET).entries()) ?? [])]).toEqual([['hello', '{}']]);
    expect([...((await console?.bucket(JOBS_BUCKET).entries()) ?? [])]).toEqual([['hello', '{}']]);
    const seen = new Set<string>();
    const see = async (deliveries: readonly { subject: string }[]) => deliveries.map(({ subject }) => (seen.add(subject), done));
    await audit?.subscribe('millrace.facts.>', { durable: 'audit' }, see);
    await planner?.subscribe('millrace.ticks.>', { durable: 'planner-ticks' }, see);
    await planner?.subscribe('millrace.control.redrive.>', { durable: 'planner-redrives' }, see);
    const subjects = [
      'ticks.hello.1',
      'facts.run.opened.hello',
      'facts.chunk.settled.hello',
      'facts.run.closed.hello',
      'control.redrive.hello',
    ];
    const tellers = [clock, planner, processor, audit, console];
    await Promise.all(tellers.map((teller, index) => teller?.publish([message(`millrace.${subjects[index]}`)])));
    await waitFor(() => seen.size === subjects.length, { what: `${[...seen]}` });
  });

  test.each([
    ['clock', 'millrace.facts.run.closed.hello'],
    ['clock', 'millrace.triggers.hello'],
    ['planner', 'millrace.facts.chunk.settled.hello'],
    ['planner', 'millrace.facts.run.closed.hello'],
    ['processor', 'millrace.facts.run.closed.hello'],
    ['processor', 'millrace.ticks.hello.2'],
    ['audit', 'millrace.facts.chunk.settled.hello'],
    ['console', 'millrace.ticks.hello.2'],
  ])('%s cannot publish %s', async (service, subject) => {
    await expect((await as(service)).publish([message(subject)])).rejects.toMatchObject({ code: 'MR3013' });
  });

  test('console and clock cannot write the jobs that they read', async () => {
    await expect((await as('console')).bucket(JOBS_BUCKET).put('hello', '{}')).rejects.toMatchObject({ code: 'MR3005' });
    await expect((await as('clock')).bucket(JOBS_BUCKET).delete('hello')).rejects.toMatchObject({ code: 'MR3005' });
  });

  test.each(['$JS.API.STREAM.PURGE.MILLRACE_FACTS', '$JS.API.STREAM.DELETE.MILLRACE_FACTS', '$JS.API.STREAM.UPDATE.MILLRACE_FACTS'])(
    'not even the planner may ask for %s, and nobody reads the inbox of another',
    async (subject) => {
      const { username, password, host } = new URL(urlOf('planner'));
      const nc = await connect({ servers: host, user: username, pass: password, inboxPrefix: '_INBOX_planner' });
      open.push(nc);
      await expect(nc.request(subject, '{}', { timeout: 5_000 })).rejects.toMatchObject({ cause: { name: 'PermissionViolationError' } });
      const refused = new Promise((resolve) => nc.subscribe('_INBOX_clock.>', { callback: (error) => resolve(error) }));
      expect(await refused).toMatchObject({ name: 'PermissionViolationError' });
    },
  );
});

describe('RabbitMQ', () => {
  let server: TestServer;
  const as = async (user: string): Promise<WorkBroker> => {
    const url = new URL(read(user, 'AMQP_URL'));
    url.host = new URL(server.url).host;
    const broker = await connectRabbit({ url: url.href });
    open.push(broker);
    return broker;
  };
  const queue = chunkQueue('hello');

  beforeAll(async () => {
    server = await startRabbit({ definitions: join(volumes, 'rabbitmq', 'definitions.json') });
    servers.push(server);
  }, 60_000);

  test('the planner makes queues and fills them, a processor works on them and parks what it cannot read', async () => {
    const [planner, processor] = [await as('planner'), await as('processor')];
    await planner.ensure(queue, async () => {});
    expect(await planner.inspect(queue)).toEqual({ ready: 0, consumers: 0 });
    await planner.publish([message(queue)]);
    let seen = 0;
    await processor.subscribe(queue, { durable: 'processor' }, async () => [seen++ === 0 ? { kind: 'park', reason: 'unreadable' } : done]);
    await waitFor(async () => (await planner.inspect(PARKED_QUEUE))?.ready === 1);
  });

  test('a processor declares nothing and reads nothing but chunks', async () => {
    const processor = await as('processor');
    await expect(processor.ensure(chunkQueue('mine'), async () => {})).rejects.toMatchObject({ code: 'MR3003' });
    let seen = 0;
    const subscription = await processor.subscribe(PARKED_QUEUE, { durable: 'processor' }, async () => [(seen++, done)]);
    await processor.publish([message(PARKED_QUEUE)]);
    await waitFor(async () => ((await processor.inspect(PARKED_QUEUE))?.ready ?? 0) >= 2);
    expect({ seen, consumers: (await processor.inspect(PARKED_QUEUE))?.consumers }).toEqual({ seen: 0, consumers: 0 });
    await subscription.drain();
  });

  test('the default user does not exist', async () => {
    await expect(connectRabbit({ url: server.url })).rejects.toMatchObject({ code: 'MR3004' });
  });
});
