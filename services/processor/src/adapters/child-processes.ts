import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { extname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { getHeapStatistics } from 'node:v8';
import { type ChunkItem, MillraceError, messageOf } from '@millrace/core';
import type { Logger } from '@millrace/runtime';
import type { ItemResult } from '../domain/results.ts';
import type { IsolatedEnd, IsolatedWork, Isolation } from '../isolation.ts';
import { type ChildNote, type ChildWork, NOTES_FD } from './child-protocol.ts';

/** Beyond an item's timeout, for the child to say so itself: only synchronous code overruns by this much. */
const MARGIN_MS = 5_000;
const START_MS = 60_000;
/** A child without work lives on this long for the next chunk. */
const IDLE_MS = 30_000;
/** Between the end of a process and the last word from its pipe, at most. */
const LAST_WORDS_MS = 1_000;
const MEMORY = /heap out of memory|JavaScript heap|Reached heap limit|Array buffer allocation failed/;

export interface ChildProcessesOptions {
  /** Where the jobs are loaded from. */
  readonly jobsPath: string;
  readonly instance: string;
  readonly log: Logger;
  /** Children at work at once. */
  readonly limit: number;
  /** MiB of JavaScript heap per child; 0: as much as this process may have. */
  readonly heap: number;
}

/** A few children that run items of any job; one that has lived through its work stays warm for the next. */
export class ChildProcesses implements Isolation {
  readonly #options: ChildProcessesOptions;
  readonly #idle: Child[] = [];
  readonly #waiting: (() => void)[] = [];
  #working = 0;
  #closed = false;

  constructor(options: ChildProcessesOptions) {
    this.#options = options;
  }

  async run(work: IsolatedWork): Promise<IsolatedEnd> {
    while (this.#working >= this.#options.limit) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#working++;
    let child: Child | undefined;
    try {
      child = (work.fresh ? undefined : this.#warm()) ?? (await Child.start(this.#options));
      const end = await child.run(work);
      if (child.alive && !this.#closed) this.#keep(child);
      else child.end();
      return end;
    } catch (error) {
      child?.end();
      throw error;
    } finally {
      this.#working--;
      this.#waiting.shift()?.();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const child of this.#idle.splice(0)) child.end();
  }

  #warm(): Child | undefined {
    for (let child = this.#idle.pop(); child; child = this.#idle.pop()) if (child.alive) return child;
    return undefined;
  }

  #keep(child: Child): void {
    this.#idle.push(child);
    child.rest(() => {
      const at = this.#idle.indexOf(child);
      if (at >= 0) this.#idle.splice(at, 1);
    });
  }
}

/** starting ──ready──▶ idle ⇄ at work; any of them ──▶ dead, by itself, by its deadline or by `end` */
class Child {
  readonly #process: ChildProcess;
  readonly #log: Logger;
  readonly #gone: Promise<string>;
  #alive = true;
  #outOfMemory = false;
  #killed: string | undefined;
  #listen: (note: ChildNote) => void = () => {};
  #note: (work: number, item: number) => void = () => {};
  #resting: NodeJS.Timeout | undefined;
  #count = 0;

  static async start(options: ChildProcessesOptions): Promise<Child> {
    const child = new Child(options);
    const said = await new Promise<ChildNote | { gone: string }>((resolve) => {
      const late = setTimeout(() => child.#kill(`it did not start within ${START_MS} ms`), START_MS);
      void child.#gone.then((gone) => resolve({ gone }));
      child.#listen = resolve;
      void child.#gone.finally(() => clearTimeout(late));
    });
    if ('ready' in said) return child;
    child.end();
    const why = 'failed' in said ? said.failed : 'gone' in said ? said.gone : 'it talked out of turn';
    throw new MillraceError('MR3016', why);
  }

  private constructor({ jobsPath, instance, log, heap }: ChildProcessesOptions) {
    this.#log = log;
    const limit = heap > 0 ? heap : Math.round(getHeapStatistics().heap_size_limit / 1_048_576);
    // Beside this file in the sources, and beside the bundle in a build.
    const extension = extname(import.meta.filename);
    this.#process = fork(join(import.meta.dirname, `child-main${extension}`), [jobsPath, instance], {
      execArgv: [...(extension === '.ts' ? ['--import', import.meta.resolve('tsx')] : []), `--max-old-space-size=${limit}`],
      stdio: ['ignore', 'inherit', 'pipe', 'ipc', 'pipe'],
    });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#outOfMemory ||= MEMORY.test(text);
      process.stderr.write(text);
    });
    const notes = this.#process.stdio[NOTES_FD] as Readable;
    let rest: Buffer = Buffer.alloc(0);
    notes.on('data', (data: Buffer) => {
      rest = Buffer.concat([rest, data]);
      let at = 0;
      for (; at + 8 <= rest.length; at += 8) this.#note(rest.readInt32LE(at), rest.readInt32LE(at + 4));
      rest = rest.subarray(at);
    });
    this.#process.on('message', (note: ChildNote) => this.#listen(note));
    this.#gone = new Promise((resolve) => {
      const exited = new Promise<string>((told) => {
        this.#process.once('error', (error) => told(`the process failed: ${messageOf(error)}`));
        this.#process.once('exit', (code, signal) => told(this.#howItEnded(code, signal)));
      });
      // Its last notes may still be in the pipe when it has gone.
      const silent = Promise.all([once(this.#process, 'disconnect'), once(notes, 'close')]);
      void exited.then(async (how) => {
        let timer: NodeJS.Timeout | undefined;
        await Promise.race([silent, new Promise<void>((late) => (timer = setTimeout(late, LAST_WORDS_MS)))]);
        clearTimeout(timer);
        this.#alive = false;
        clearTimeout(this.#resting);
        resolve(how);
      });
    });
  }

  get alive(): boolean {
    return this.#alive && this.#process.connected && this.#killed === undefined;
  }

  async run({ job, chunk, todo, concurrency, budget, signal }: IsolatedWork): Promise<IsolatedEnd> {
    clearTimeout(this.#resting);
    const work = ++this.#count;
    const results = new Map<number, ItemResult>();
    const underWay = new Map<number, number>();
    const { timeout } = job.manifest;
    let heard = performance.now();
    let refused: string | undefined;
    const over = new Promise<'over'>((resolve) => {
      this.#listen = (note) => {
        heard = performance.now();
        if ('failed' in note) refused = note.failed;
        if ('failed' in note || ('over' in note && note.work === work)) return resolve('over');
        if ('ended' in note && note.work === work) results.set(todo[note.ended] as number, note.result);
      };
    });
    this.#note = (of, item) => {
      heard = performance.now();
      if (of !== work) return;
      if (item < 0) underWay.delete(~item);
      else underWay.set(item, heard);
    };
    const watch = setInterval(
      () => {
        const [eldest = heard] = underWay.values();
        if (performance.now() - eldest > timeout + MARGIN_MS) this.#kill(`the process did not return within ${timeout} ms`);
      },
      Math.min(1_000, timeout),
    );
    const abort = () => this.#kill('the processor stops');
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    const { positions: _, ...rest } = chunk;
    const order: ChildWork = {
      work,
      job: job.name,
      chunk: { ...rest, items: todo.map((index) => chunk.items[index] as ChunkItem) },
      concurrency,
      budget,
    };
    // A failure to send is the process's end, which is told below.
    this.#process.send(order, () => undefined);
    const end = await Promise.race([over, this.#gone]);
    clearInterval(watch);
    signal.removeEventListener('abort', abort);
    this.#listen = () => {};
    if (refused !== undefined) throw new MillraceError('MR3016', refused);
    if (end === 'over' || signal.aborted) return { results, death: undefined, underWay: [] };
    this.#log.warn({ job: job.name, run: chunk.runId, chunk: chunk.seq, items: underWay.size }, `isolated items: ${end}`);
    return { results, death: end, underWay: [...underWay.keys()].map((at) => todo[at] as number) };
  }

  rest(gone: () => void): void {
    this.#resting = setTimeout(() => {
      gone();
      this.end();
    }, IDLE_MS).unref();
  }

  end(): void {
    clearTimeout(this.#resting);
    this.#kill('it was ended');
  }

  #kill(why: string): void {
    this.#killed ??= why;
    this.#process.kill('SIGKILL');
  }

  /** Without what differs from time to time: equal ends make one group of failures. */
  #howItEnded(code: number | null, signal: NodeJS.Signals | null): string {
    if (this.#killed !== undefined) return this.#killed;
    if (this.#outOfMemory) return 'the process ran out of memory';
    if (signal === 'SIGKILL') return 'the process was killed, as happens when memory runs out';
    return signal ? `the process ended by ${signal}` : `the process exited with code ${code}`;
  }
}
