import { connect, createServer, type Server, type Socket } from 'node:net';

/** A loopback port in front of a server, through which the network can be made to fail. */
export interface TcpProxy {
  readonly port: number;
  /** `url` with the address of the proxy: hand this to the clients. */
  through(url: string): string;
  /** Every byte arrives this many milliseconds later, in both directions; 0 turns it off. */
  delay(milliseconds: number): void;
  /** Nothing moves any more, on old connections and on new ones, and nobody is told: a broken switch. `resume` lets everything go on. */
  stall(): void;
  resume(): void;
  /** Ends every connection in good order, as a proxy does that is restarted. */
  cut(): void;
  /** Ends every connection with RST, as a firewall does that lost its state. */
  reset(): void;
  /** The server loses every connection, the clients are never told: a host that vanished. New connections work. */
  halfOpen(): void;
  /** Connections are refused, and those that exist are reset; `resume` ends it. */
  refuse(): void;
  connections(): number;
  close(): Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

/** Listens on a free loopback port and carries every connection on to `target`, a URL or a port on this machine. */
export async function startTcpProxy(target: string | number): Promise<TcpProxy> {
  const { hostname, port } = typeof target === 'number' ? { hostname: '127.0.0.1', port: String(target) } : new URL(target);
  const proxy = new LoopbackProxy(hostname, Number(port));
  await proxy.listen();
  return proxy;
}

class LoopbackProxy implements TcpProxy {
  port = 0;
  readonly #host: string;
  readonly #target: number;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  /** Clients whose other side is gone without their knowledge. */
  readonly #orphans = new Set<Socket>();
  #delay = 0;
  #stalled = false;
  #refusing = false;

  constructor(host: string, target: number) {
    this.#host = host;
    this.#target = target;
    this.#server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true }, (client) => this.#accept(client));
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(0, '127.0.0.1', () => {
        this.port = (this.#server.address() as { port: number }).port;
        resolve();
      });
    });
  }

  through(url: string): string {
    const changed = new URL(url);
    changed.hostname = '127.0.0.1';
    changed.port = String(this.port);
    return changed.href;
  }

  delay(milliseconds: number): void {
    this.#delay = milliseconds;
  }

  stall(): void {
    this.#stalled = true;
    for (const { client, server } of this.#pairs) for (const socket of [client, server]) socket.pause();
  }

  resume(): void {
    this.#stalled = false;
    this.#refusing = false;
    for (const { client, server } of this.#pairs) for (const socket of [client, server]) socket.resume();
  }

  cut(): void {
    for (const { client, server } of this.#take()) for (const socket of [client, server]) socket.end(() => socket.destroy());
  }

  reset(): void {
    for (const { client, server } of this.#take()) for (const socket of [client, server]) socket.resetAndDestroy();
  }

  halfOpen(): void {
    for (const { client, server } of this.#take()) {
      server.resetAndDestroy();
      // Read on, so that the client can write for ever without an answer.
      client.removeAllListeners('data').resume();
      this.#orphans.add(client);
    }
  }

  refuse(): void {
    this.#refusing = true;
    this.reset();
  }

  connections(): number {
    return this.#pairs.size;
  }

  async close(): Promise<void> {
    this.reset();
    for (const orphan of this.#orphans) orphan.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(client: Socket): void {
    client.on('error', () => {});
    client.on('close', () => this.#orphans.delete(client));
    if (this.#refusing) return void client.resetAndDestroy();
    const server = connect({ host: this.#host, port: this.#target, allowHalfOpen: true, noDelay: true });
    const pair = { client, server };
    this.#pairs.add(pair);
    this.#carry(pair, client, server);
    this.#carry(pair, server, client);
    if (this.#stalled) server.pause();
    else client.resume();
  }

  #carry(pair: Pair, from: Socket, to: Socket): void {
    /** Bytes and the end keep their order, however the delay changes meanwhile. */
    let last = 0;
    const later = (act: () => void) => {
      if (this.#delay === 0 && last === 0) return act();
      const due = Math.max(last, performance.now() + this.#delay);
      last = due;
      setTimeout(() => {
        if (last === due) last = 0;
        act();
      }, due - performance.now());
    };
    from.on('data', (bytes) =>
      later(() => {
        if (this.#pairs.has(pair) && !to.write(bytes)) from.pause();
      }),
    );
    to.on('drain', () => this.#stalled || from.resume());
    from.on('end', () => later(() => this.#pairs.has(pair) && to.end()));
    from.on('error', () => {});
    from.on('close', (failed) => {
      if (!this.#pairs.has(pair)) return;
      if (failed) this.#drop(pair);
      else if (to.destroyed) this.#pairs.delete(pair);
    });
  }

  /** One side failed: so does the other. */
  #drop(pair: Pair): void {
    this.#pairs.delete(pair);
    pair.client.resetAndDestroy();
    pair.server.resetAndDestroy();
  }

  /** All connections, from now on nobody's. */
  #take(): Pair[] {
    const pairs = [...this.#pairs];
    this.#pairs.clear();
    return pairs;
  }
}
