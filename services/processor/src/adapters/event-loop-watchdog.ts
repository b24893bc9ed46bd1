import { url as debuggerUrl } from 'node:inspector';
import { Worker } from 'node:worker_threads';
import { type Chunk, chunkIdOf, type Milliseconds } from '@millrace/core';
import type { Job } from 'millrace';
import { positionOf } from '../domain/todo.ts';
import type { ItemWatch } from '../run-items.ts';
import type { Watchdog } from '../watchdog.ts';

const BEAT_MS = 500;
/** Beyond the timeout of the item: slow is not stuck. */
const MARGIN_MS = 10_000;

/** Places in the shared memory. */
const BEATS = 0;
/** Index of the job whose `process` is being called, from 1; 0 for none. */
const JOB = 1;
const ITEM = 2;

/**
 * A thread of its own, because a stuck event loop runs no timer. It counts its own turns instead of asking a clock, so that a
 * process that was stopped or a machine that slept is not taken for stuck. JavaScript text, because a thread is not started
 * from TypeScript sources, and a build should not need another file.
 */
const THREAD = `
const { workerData, parentPort } = require('node:worker_threads');
const { writeSync } = require('node:fs');
const { shared, limits, names, longest, every } = workerData;
const seen = new Int32Array(shared);
const chunks = new Map();
parentPort.on('message', ([job, chunk]) => chunks.set(job, chunk));
let beats = -1, turns = 0;
setInterval(() => {
  const now = Atomics.load(seen, ${BEATS});
  turns = now === beats ? turns + 1 : 0;
  beats = now;
  const job = Atomics.load(seen, ${JOB}) - 1;
  const limit = job < 0 ? longest : limits[job];
  if (turns * every < limit) return;
  const what = job < 0 ? '' : ' in item ' + Atomics.load(seen, ${ITEM}) + ' of a chunk of ' + names[job] + (chunks.has(job) ? ' (the latest one begun is ' + chunks.get(job) + ')' : '');
  writeSync(2, JSON.stringify({ level: 'fatal', time: new Date().toISOString(), msg: 'the event loop has been stuck for ' + turns * every + ' ms' + what + '; ending this process, its chunks will be delivered again and isolated' }) + '\\n');
  process.kill(process.pid, 'SIGKILL');
}, every);
`;

export class EventLoopWatchdog implements Watchdog {
  readonly #jobs: ReadonlyMap<string, number>;
  readonly #seen: Int32Array;
  readonly #worker: Worker | undefined;
  readonly #beat: NodeJS.Timeout;

  constructor(jobs: ReadonlyMap<string, Job>, margin: Milliseconds = MARGIN_MS) {
    const names = [...jobs.keys()];
    const limits = [...jobs.values()].map((job) => job.manifest.timeout + margin);
    const shared = new SharedArrayBuffer(4 * Int32Array.BYTES_PER_ELEMENT);
    this.#jobs = new Map(names.map((name, index) => [name, index]));
    this.#seen = new Int32Array(shared);
    const workerData = { shared, names, limits, longest: Math.max(...limits), every: BEAT_MS };
    // A breakpoint keeps the event loop too.
    if (debuggerUrl() === undefined) this.#worker = new Worker(THREAD, { eval: true, execArgv: [], workerData });
    this.#worker?.unref();
    this.#beat = setInterval(() => Atomics.add(this.#seen, BEATS, 1), BEAT_MS).unref();
  }

  watch(chunk: Chunk): ItemWatch {
    const seen = this.#seen;
    const job = this.#jobs.get(chunk.job) ?? -1;
    this.#worker?.postMessage([job, chunkIdOf(chunk.runId, chunk.generation, chunk.seq)]);
    return {
      entering: (index) => {
        Atomics.store(seen, ITEM, positionOf(chunk, index));
        Atomics.store(seen, JOB, job + 1);
      },
      left: () => Atomics.store(seen, JOB, 0),
      ended: () => undefined,
    };
  }

  async close(): Promise<void> {
    clearInterval(this.#beat);
    await this.#worker?.terminate();
  }
}
