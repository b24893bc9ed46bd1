import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterEach, expect, test } from '@jest/globals';
import { jetstreamManager } from '@nats-io/jetstream';
import amqp from 'amqplib';
import { connect } from 'nats';
import pg from 'pg';
import { answers } from './free-port.ts';
import { startNats, startPostgres, startRabbit, type TestServer, waitFor } from './index.ts';

let server: TestServer | undefined;
afterEach(async () => {
  await server?.stop();
  server = undefined;
});

test('PostgreSQL keeps its data over a kill, loses them in a reset, and falls silent while paused', async () => {
  server = await startPostgres();
  const { url } = server;
  const query = async (sql: string) => {
    const client = new pg.Client({ connectionString: url, query_timeout: 1_000, connectionTimeoutMillis: 1_000 });
    client.on('error', () => {});
    try {
      await client.connect();
      return (await client.query(sql)).rows;
    } finally {
      await client.end().catch(() => {});
    }
  };
  await query('CREATE TABLE kept AS SELECT 7 AS n');
  await server.kill();
  await expect(query('SELECT 1')).rejects.toThrow('ECONNREFUSED');
  await server.restart();
  expect(await query('SELECT n FROM kept')).toEqual([{ n: 7 }]);
  await server.pause();
  await expect(query('SELECT 1')).rejects.toThrow(/timeout/i);
  await server.resume();
  expect(await query('SELECT n FROM kept')).toEqual([{ n: 7 }]);
  await server.reset();
  await expect(query('SELECT n FROM kept')).rejects.toThrow('does not exist');
}, 60_000);

test('NATS keeps its streams over a restart and loses them in a reset', async () => {
  server = await startNats();
  const streams = async () => {
    const connection = await connect({ servers: server?.url ?? '', reconnect: false });
    try {
      const manager = await jetstreamManager(connection);
      const names = (await manager.streams.list().next()).map((stream) => stream.config.name);
      if (names.length === 0) await manager.streams.add({ name: 'FACTS', subjects: ['facts.>'] });
      return names;
    } finally {
      await connection.close();
    }
  };
  expect(await streams()).toEqual([]);
  await server.restart();
  expect(await streams()).toEqual(['FACTS']);
  await server.reset();
  expect(await streams()).toEqual([]);
}, 60_000);

test('RabbitMQ keeps a confirmed message in a quorum queue over a kill, and loses the queue in a reset', async () => {
  server = await startRabbit();
  const { url } = server;
  const withChannel = async <T>(work: (channel: amqp.ConfirmChannel) => Promise<T>): Promise<T> => {
    const connection = await amqp.connect(url);
    connection.on('error', () => {});
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => {});
    try {
      return await work(channel);
    } finally {
      await connection.close().catch(() => {});
    }
  };
  await withChannel(async (channel) => {
    await channel.assertQueue('kept', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  });
  // RabbitMQ 3.10 forgets a quorum queue when it is killed within half a second of declaring it.
  await server.restart();
  await withChannel(async (channel) => {
    channel.sendToQueue('kept', Buffer.from('seven'), { persistent: true });
    await channel.waitForConfirms();
  });
  await server.kill();
  await server.restart();
  const text = await withChannel(async (channel) => ((await channel.get('kept', { noAck: true })) || undefined)?.content.toString());
  expect(text).toBe('seven');
  await server.control('set_vm_memory_high_watermark', '0.3');
  expect(await server.control('eval', 'vm_memory_monitor:get_vm_memory_high_watermark().')).toContain('0.3');
  await server.reset();
  await expect(withChannel((channel) => channel.checkQueue('kept'))).rejects.toThrow('NOT_FOUND');
}, 120_000);

test('a server and its folder are gone soon after the test that started it was killed', async () => {
  const accepts = (port: number) => answers(port, undefined, () => true);
  const script = `
    const { startNats } = await import(${JSON.stringify(new URL('./index.ts', import.meta.url).href)});
    const server = await startNats();
    console.log(server.url, (await server.log()).match(/Store Directory: "([^"]+)"/)?.[1] ?? '');
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    encoding: 'utf8',
    cwd: import.meta.dirname,
  });
  expect(child.signal).toBe('SIGKILL');
  const [url = '', directory = ''] = child.stdout.trim().split(' ');
  expect(url).toMatch(/^nats:/);
  const port = Number(new URL(url).port);
  await waitFor(async () => !(await accepts(port)), { what: 'the end of the server' });
  expect(directory).not.toBe('');
  await waitFor(() => !existsSync(directory), { what: 'the end of its folder' });
}, 30_000);
