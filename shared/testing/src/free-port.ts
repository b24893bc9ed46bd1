import { connect, createServer } from 'node:net';

/**
 * A loopback port on which nothing listens, below the range the system gives to outgoing connections: inside that range a client that
 * reconnects to a stopped server may be given the server's own port and meet itself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** Connects, says `hello` and judges the first bytes that come back. False for every failure, and after two seconds of silence. */
export function answers(port: number, hello: Uint8Array | undefined, welcomes: (answer: Buffer) => boolean): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', timeout: 2_000 });
    const end = (result: boolean) => {
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', () => hello && socket.write(hello));
    socket.once('data', (answer) => end(welcomes(answer)));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
    socket.once('close', () => resolve(false));
  });
}
