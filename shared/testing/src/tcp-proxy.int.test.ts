import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';
import { waitFor } from './wait-for.ts';

let echo: Server;
let proxy: TcpProxy;
const sockets = new Set<Socket>();
/** What became of connections at the server. */
let ended: string[];

beforeEach(async () => {
  ended = [];
  echo = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', (error) => ended.push(String((error as NodeJS.ErrnoException).code)));
    socket.on('end', () => ended.push('end'));
    socket.pipe(socket);
  });
  await once(echo.listen(0, '127.0.0.1'), 'listening');
  proxy = await startTcpProxy((echo.address() as AddressInfo).port);
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await proxy.close();
  await new Promise((resolve) => echo.close(resolve));
});

function dial() {
  const socket = connect(proxy.port, '127.0.0.1');
  sockets.add(socket);
  const seen = { text: '', end: false, error: '' };
  socket.on('data', (bytes) => {
    seen.text += bytes.toString();
  });
  socket.on('end', () => {
    seen.end = true;
  });
  socket.on('error', (error) => {
    seen.error = String((error as NodeJS.ErrnoException).code);
  });
  return { socket, seen };
}

test('bytes pass in both directions, a megabyte of them too, and the end of one side reaches the other', async () => {
  const { socket, seen } = dial();
  const text = 'millrace'.repeat(131_072);
  socket.end(text);
  await waitFor(() => seen.end, { what: 'the end' });
  expect(seen.text === text).toBe(true);
  expect(ended).toEqual(['end']);
  await waitFor(() => proxy.connections() === 0);
});

test('a URL keeps everything but its address', () => {
  expect(proxy.through('amqp://guest:guest@example.org:5672/vhost?heartbeat=3')).toBe(
    `amqp://guest:guest@127.0.0.1:${proxy.port}/vhost?heartbeat=3`,
  );
});

test('a delay holds bytes back and keeps their order', async () => {
  const { socket, seen } = dial();
  socket.write('a');
  await waitFor(() => seen.text === 'a');
  proxy.delay(60);
  const began = performance.now();
  socket.write('b');
  await waitFor(() => seen.text === 'ab');
  expect(performance.now() - began).toBeGreaterThanOrEqual(115);
  socket.write('c');
  await waitFor(() => socket.bytesWritten === 3);
  proxy.delay(0);
  socket.write('d');
  await waitFor(() => seen.text.length === 4);
  expect(seen.text).toBe('abcd');
});

test('a stall holds old and new connections in silence, and afterwards nothing is lost', async () => {
  const old = dial();
  old.socket.write('1');
  await waitFor(() => old.seen.text === '1');
  proxy.stall();
  old.socket.write('2');
  const fresh = dial();
  fresh.socket.write('3');
  await waitFor(() => fresh.socket.bytesWritten === 1 && proxy.connections() === 2);
  // A third party that is not stalled answers in the meantime: the silence is not just slowness.
  const direct = connect((echo.address() as AddressInfo).port, '127.0.0.1');
  sockets.add(direct);
  direct.write('x');
  await once(direct, 'data');
  expect([old.seen, fresh.seen].map(({ text, end, error }) => [text, end, error])).toEqual([
    ['1', false, ''],
    ['', false, ''],
  ]);
  proxy.resume();
  await waitFor(() => old.seen.text === '12' && fresh.seen.text === '3');
});

test('a cut ends connections in good order, a reset does not, and new ones work at once', async () => {
  const cut = dial();
  cut.socket.write('1');
  await waitFor(() => cut.seen.text === '1');
  proxy.cut();
  await waitFor(() => cut.seen.end && ended.includes('end'));
  const reset = dial();
  reset.socket.write('2');
  await waitFor(() => reset.seen.text === '2');
  proxy.reset();
  await waitFor(() => reset.seen.error === 'ECONNRESET' && ended.includes('ECONNRESET'));
  const fresh = dial();
  fresh.socket.write('3');
  await waitFor(() => fresh.seen.text === '3');
});

test('half-open: the server has lost the connection, the client writes on and hears nothing, new connections work', async () => {
  const { socket, seen } = dial();
  socket.write('1');
  await waitFor(() => seen.text === '1');
  proxy.halfOpen();
  await waitFor(() => ended.includes('ECONNRESET'), { what: 'the server to lose its side' });
  socket.write('2'.repeat(200_000));
  const fresh = dial();
  fresh.socket.write('3');
  await waitFor(() => fresh.seen.text === '3' && socket.writableLength === 0);
  expect(seen).toEqual({ text: '1', end: false, error: '' });
});

test('while it refuses, nobody gets through', async () => {
  const old = dial();
  old.socket.write('1');
  await waitFor(() => old.seen.text === '1');
  proxy.refuse();
  const late = dial();
  late.socket.write('2');
  await waitFor(() => old.seen.error !== '' && late.seen.error !== '');
  proxy.resume();
  const fresh = dial();
  fresh.socket.write('3');
  await waitFor(() => fresh.seen.text === '3');
  expect(late.seen.text).toBe('');
});

test('a server that is away ends the connection', async () => {
  const nobody = await startTcpProxy(1);
  const socket = connect(nobody.port, '127.0.0.1');
  sockets.add(socket);
  const [error] = await once(socket, 'error');
  expect(error).toMatchObject({ code: 'ECONNRESET' });
  await nobody.close();
});
