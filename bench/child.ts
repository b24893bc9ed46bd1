import { type ChildProcess, spawn } from 'node:child_process';

/** A Node process that is told what to do over IPC; its output is shown when it fails. */
export class Child {
  readonly #process: ChildProcess;
  readonly #waiting: { resolve: (message: Reply) => void; reject: (error: Error) => void; kind: string }[] = [];
  readonly #early: Reply[] = [];
  readonly #file: string;
  readonly #ended: Promise<void>;
  #output = '';
  #over = false;

  constructor(file: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#file = file;
    // Only TypeScript needs the loader; a bundle starts as it would in production.
    const loader = file.endsWith('.ts') ? ['--import', 'tsx'] : [];
    const profile = process.env['BENCH_PROFILE'] ? ['--import', new URL('./profile-hook.mjs', import.meta.url).href] : [];
    this.#process = spawn(process.execPath, [...loader, ...profile, file, ...args], {
      env: { ...process.env, NODE_OPTIONS: '', ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-20_000);
      });
    }
    this.#process.on('message', (message: Reply) => {
      const at = this.#waiting.findIndex(({ kind }) => kind === message.kind);
      if (at < 0) this.#early.push(message);
      else this.#waiting.splice(at, 1)[0]?.resolve(message);
    });
    this.#ended = new Promise((resolve) =>
      this.#process.once('close', (code, signal) => {
        this.#over = true;
        for (const { reject } of this.#waiting.splice(0)) reject(this.#failure(`ended with ${signal ?? code}`));
        resolve();
      }),
    );
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get output(): string {
    return this.#output;
  }

  tell(message: object): void {
    this.#process.send(message);
  }

  /** The next message of this kind. */
  async hear(kind: string): Promise<Reply> {
    const at = this.#early.findIndex((message) => message.kind === kind);
    const early = at < 0 ? undefined : this.#early.splice(at, 1)[0];
    if (early) return early;
    if (this.#over) throw this.#failure('has ended');
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject, kind }));
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.#over) return;
    this.#process.kill(signal);
    const late = setTimeout(() => this.#process.kill('SIGKILL'), 10_000);
    await this.#ended;
    clearTimeout(late);
  }

  #failure(what: string): Error {
    return new Error(`${this.#file} ${what}:\n${this.#output}`);
  }
}

export interface Reply {
  readonly kind: string;
  readonly [field: string]: unknown;
}
