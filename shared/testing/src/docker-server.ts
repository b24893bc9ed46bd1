import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { answers, freePort } from './free-port.ts';
import { startGuard } from './guard.ts';
import type { ServerRecipe, TestServer } from './server.ts';
import { waitFor } from './wait-for.ts';

const START_TIMEOUT = 120_000;
const run = promisify(execFile);

/** Runs `docker`; rejects with what it printed. */
export async function docker(...args: readonly string[]): Promise<string> {
  return (await run('docker', [...args])).stdout;
}

export async function dockerWorks(): Promise<boolean> {
  return docker('version', '--format', '{{.Server.Version}}').then(
    () => true,
    () => false,
  );
}

export async function startDockerServer(recipe: ServerRecipe): Promise<TestServer> {
  const port = await freePort();
  const server = new DockerServer(recipe, port);
  try {
    await server.reset();
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

/** One container with its own anonymous volume. */
class DockerServer implements TestServer {
  readonly url: string;
  readonly pid = undefined;
  readonly #recipe: ServerRecipe;
  readonly #port: number;
  readonly #container: string;
  readonly #guard = startGuard();

  constructor(recipe: ServerRecipe, port: number) {
    this.url = recipe.url(port);
    this.#recipe = recipe;
    this.#port = port;
    this.#container = `millrace-test-${recipe.name}-${port}`;
    this.#guard.atEnd(`docker rm -f -v ${this.#container}`);
  }

  async restart(): Promise<void> {
    await this.resume();
    await docker('stop', this.#container);
    await docker('start', this.#container);
    await this.#ready();
  }

  async reset(): Promise<void> {
    await docker('rm', '-f', '-v', this.#container).catch(() => '');
    const { image, port, options, command } = this.#recipe.docker;
    await docker('run', '-d', '--name', this.#container, '-p', `127.0.0.1:${this.#port}:${port}`, ...options, image, ...command);
    await this.#ready();
  }

  async kill(): Promise<void> {
    await this.resume();
    await docker('kill', this.#container).catch(() => '');
  }

  async pause(): Promise<void> {
    await docker('pause', this.#container);
  }

  async resume(): Promise<void> {
    await docker('unpause', this.#container).catch(() => '');
  }

  async stop(): Promise<void> {
    await docker('rm', '-f', '-v', this.#container).catch(() => '');
    this.#guard.release();
  }

  async control(...args: readonly string[]): Promise<string> {
    const { control } = this.#recipe.docker;
    if (control === undefined) throw new Error(`${this.#recipe.name} has no control program`);
    return docker('exec', this.#container, control, ...args);
  }

  log(): Promise<string> {
    return docker('logs', this.#container).catch(String);
  }

  async #ready(): Promise<void> {
    const ready = () => answers(this.#port, this.#recipe.hello, this.#recipe.welcomes);
    await waitFor(ready, { timeout: START_TIMEOUT, interval: 100, what: `container ${this.#container}` });
  }
}
