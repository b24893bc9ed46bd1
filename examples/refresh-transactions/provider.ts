import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * A payment provider as they are: slow, limited and at times away, but the same each time, by id.
 *
 *     id % 200 = 7   unknown to it: 404, always
 *     id % 10 = 3    429 with Retry-After at the first try
 *     id % 25 = 6    503 at the first two tries
 *     any other      200 with the state of the transaction
 */
export async function startProvider(): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const tries = new Map<number, number>();
  const server = createServer((request, response) => {
    const id = Number(/^\/transactions\/(\d+)$/.exec(request.url ?? '')?.[1]);
    const attempt = (tries.get(id) ?? 0) + 1;
    tries.set(id, attempt);
    setTimeout(
      () => {
        const { status, headers, body } = answer(id, attempt);
        response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
      },
      5 + ((id * 7919) % 26),
    );
  });
  await new Promise<void>((resolve, fail) => server.once('error', fail).listen(0, '127.0.0.1', resolve));
  // A process that has nothing else to do may end.
  server.unref();
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answer(id: number, attempt: number): { status: number; headers?: Record<string, string>; body: unknown } {
  if (!Number.isInteger(id) || id % 200 === 7) return { status: 404, body: { error: 'no such transaction' } };
  if (id % 10 === 3 && attempt === 1) return { status: 429, headers: { 'retry-after': '1' }, body: { error: 'too many requests' } };
  if (id % 25 === 6 && attempt <= 2) return { status: 503, body: { error: 'try again' } };
  return { status: 200, body: { id, status: id % 17 === 0 ? 'declined' : 'settled' } };
}
