import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chown, mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { answers, freePort } from './free-port.ts';
import { startGuard } from './guard.ts';
import { isAlive, processTree, signal } from './process-tree.ts';
import type { LocalProgram, ServerRecipe, TestServer } from './server.ts';
import { waitFor } from './wait-for.ts';

const START_TIMEOUT = 60_000;
const STOP_TIMEOUT = 15_000;

export async function startLocalServer(recipe: ServerRecipe, binary: string, folder = tmpdir()): Promise<TestServer> {
  const directory = await mkdtemp(join(folder, `millrace-${recipe.name}-`));
  const port = await freePort();
  const program = await recipe.local({ binary, port, directory });
  const server = new LocalServer(recipe, binary, directory, port, program);
  try {
    await server.restart();
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

/** One server process (and its companion), known by pid. */
class LocalServer implements TestServer {
  readonly url: string;
  readonly #recipe: ServerRecipe;
  readonly #binary: string;
  readonly #directory: string;
  readonly #port: number;
  readonly #program: LocalProgram;
  readonly #guard = startGuard();
  #child: ChildProcess | undefined;
  #companion: ChildProcess | undefined;
  #prepared = false;

  constructor(recipe: ServerRecipe, binary: string, directory: string, port: number, program: LocalProgram) {
    this.url = recipe.url(port);
    this.#recipe = recipe;
    this.#binary = binary;
    this.#directory = directory;
    this.#port = port;
    this.#program = program;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async restart(): Promise<void> {
    await this.#shutDown();
    if (!this.#prepared) await this.#prepare();
    const { companion } = this.#program;
    if (companion && !this.#companion) {
      this.#companion = await this.#spawn(companion.command, companion.args, {});
      await waitFor(() => answers(companion.port, EPMD_NAMES, () => true), { timeout: START_TIMEOUT, what: companion.command });
    }
    const child = await this.#spawn(this.#binary, this.#program.args, this.#program.user ?? {});
    this.#child = child;
    this.#watch();
    const ready = () => hasEnded(child) || answers(this.#port, this.#recipe.hello, this.#recipe.welcomes);
    await waitFor(ready, { timeout: START_TIMEOUT, interval: 50, what: `${this.#recipe.name} on port ${this.#port}` });
    if (hasEnded(child)) throw new Error(`${this.#recipe.name} did not start:\n${(await this.log()).slice(-4_000)}`);
  }

  async reset(): Promise<void> {
    await this.kill();
    await rm(this.#program.data, { recursive: true, force: true });
    this.#prepared = false;
    await this.restart();
  }

  async kill(): Promise<void> {
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    const tree = await processTree(pid);
    signal(tree, 'SIGKILL');
    await gone(tree, STOP_TIMEOUT);
    this.#child = undefined;
    this.#watch();
  }

  async pause(): Promise<void> {
    if (this.#child?.pid !== undefined) signal(await processTree(this.#child.pid), 'SIGSTOP');
  }

  async resume(): Promise<void> {
    if (this.#child?.pid !== undefined) signal(await processTree(this.#child.pid), 'SIGCONT');
  }

  async stop(): Promise<void> {
    await this.#shutDown();
    if (this.#companion?.pid !== undefined) {
      signal([this.#companion.pid], 'SIGKILL');
      await gone([this.#companion.pid], STOP_TIMEOUT);
    }
    this.#companion = undefined;
    await rm(this.#directory, { recursive: true, force: true });
    this.#guard.release();
  }

  async control(...args: readonly string[]): Promise<string> {
    const { control } = this.#program;
    if (control === undefined) throw new Error(`${this.#recipe.name} has no control program`);
    return (await promisify(execFile)(control, [...args], { env: this.#env(), cwd: this.#directory })).stdout;
  }

  log(): Promise<string> {
    return readFile(join(this.#directory, 'output.log'), 'utf8').catch(() => '');
  }

  async #shutDown(): Promise<void> {
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    const tree = await processTree(pid);
    signal(tree, 'SIGCONT');
    signal([pid], this.#program.stopSignal);
    await gone(tree, STOP_TIMEOUT).catch(() => this.kill());
    this.#child = undefined;
    this.#watch();
  }

  async #prepare(): Promise<void> {
    await mkdir(this.#program.data, { recursive: true });
    const { user } = this.#program;
    if (user) {
      await chown(this.#directory, user.uid, user.gid);
      await chown(this.#program.data, user.uid, user.gid);
    }
    await this.#program.prepare?.();
    this.#prepared = true;
  }

  async #spawn(command: string, args: readonly string[], user: { uid?: number; gid?: number }): Promise<ChildProcess> {
    const output = await open(join(this.#directory, 'output.log'), 'a');
    // A group of its own: Ctrl-C ends the test run, and the guard then ends the server.
    const child = spawn(command, args, {
      ...user,
      env: this.#env(),
      cwd: this.#directory,
      detached: true,
      stdio: ['ignore', output.fd, output.fd],
    });
    child.on('error', () => {});
    child.unref();
    await output.close();
    if (child.pid === undefined) throw new Error(`cannot start ${command}`);
    return child;
  }

  #env(): NodeJS.ProcessEnv {
    return { PATH: process.env.PATH ?? '', LANG: 'C.UTF-8', HOME: this.#directory, ...this.#program.env };
  }

  /** Tells the guard what is running now. */
  #watch(): void {
    const groups = [this.#child?.pid, this.#companion?.pid].filter((pid) => pid !== undefined).map((pid) => `-${pid}`);
    const end = groups.length > 0 ? `kill -s KILL -- ${groups.join(' ')} 2>/dev/null; ` : '';
    this.#guard.atEnd(`${end}sleep 1; rm -rf -- '${this.#directory}'`);
  }
}

/** EPMD's NAMES request, which every epmd answers. */
const EPMD_NAMES = Uint8Array.of(0, 1, 110);

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;

async function gone(pids: readonly number[], timeout: number): Promise<void> {
  const none = async () => !(await Promise.all(pids.map(isAlive))).includes(true);
  await waitFor(none, { timeout, what: `the end of processes ${pids.join(', ')}` });
}
