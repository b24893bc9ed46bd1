/** A private server for tests, on a free loopback port. It ends with the process that started it, however that process ends. */
export interface TestServer {
  /** Stays the same over `restart` and `reset`. */
  readonly url: string;
  /** Its process, while it runs on this machine and not in a container. */
  readonly pid: number | undefined;
  /** Stops in good order if it runs, and starts again on the same port with the same data; also after `kill` or `pause`. Resolves when it answers. */
  restart(): Promise<void>;
  /** Loses all data at once (SIGKILL, wipe) and starts again on the same port. */
  reset(): Promise<void>;
  /** SIGKILL for the server and its children; the data stay. `restart` brings it back. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay open and silent, as with a stalled host. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends the server for good and removes its data; for `afterAll`. Twice is fine. For an outage use `kill`, later `restart`. */
  stop(): Promise<void>;
  /** Runs the server's own control program with these arguments, where it has one (`rabbitmqctl`). Resolves with what it printed, rejects when it fails. */
  control(...args: readonly string[]): Promise<string>;
  /** What the server printed so far, for failure messages. */
  log(): Promise<string>;
}

/** How one kind of server runs; `startServer` chooses the local binary where there is one, else Docker. */
export interface ServerRecipe {
  readonly name: string;
  url(port: number): string;
  /** Bytes a client sends first; none when the server speaks first. */
  readonly hello?: Uint8Array;
  /** True when the answer to `hello` says that clients are welcome. */
  welcomes(answer: Buffer): boolean;
  /** The program on this machine, or undefined when it is not installed. */
  binary(): string | undefined;
  local(place: LocalPlace): LocalProgram | Promise<LocalProgram>;
  readonly docker: {
    readonly image: string;
    readonly port: number;
    readonly options: readonly string[];
    readonly command: readonly string[];
    /** The control program inside the container. */
    readonly control?: string;
  };
}

export interface LocalPlace {
  readonly binary: string;
  readonly port: number;
  readonly directory: string;
}

export interface LocalProgram {
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Signal for an orderly stop. */
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
  /** Folder that holds the data; `reset` empties it and `prepare` fills it again. */
  readonly data: string;
  prepare?(): Promise<void>;
  /** The server's control program; runs with `env`. */
  readonly control?: string;
  /** A process that must run beside the server. */
  readonly companion?: { readonly command: string; readonly args: readonly string[]; readonly port: number };
}
