import { url as debuggerUrl } from 'node:inspector';
import { Worker } from 'node:worker_threads';
import type { Chunk, Milliseconds } from '@millrace/core';
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
/** From here on two for each job: generation and number of the chunk begun last. */
const CHUNKS = 3;

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
const runs = new Map();
parentPort.on('message', ([job, run]) => runs.set(job, run));
const latest = (job) => runs.get(job) + '/' + Atomics.load(seen, ${CHUNKS} + 2 * job) + '/' + Atomics.load(seen, ${CHUNKS} + 2 * job + 1);
let beats = -1, turns = 0;
setInterval(() => {
  const now = Atomics.load(seen, ${BEATS});
  turns = now === beats ? turns + 1 : 0;
  beats = now;
  const job = Atomics.load(seen, ${JOB}) - 1;
  const limit = job < 0 ? longest : limits[job];
  if (turns * every < limit) return;
  const what = job < 0 ? '' : ' in item ' + Atomics.load(seen, ${ITEM}) + ' of a chunk of ' + names[job] + (runs.has(job) ? ' (the latest one begun is ' + latest(job) + ')' : '');
  writeSync(2, JSON.stringify({ level: 'fatal', time: new Date().toISOString(), msg: 'the event loop has been stuck for ' + turns * every + ' ms' + what + '; ending this process, its chunks will be delivered again and isolated' }) + '\\n');
  process.kill(process.pid, 'SIGKILL');
}, every);
`;

export class EventLoopWatchdog implements Watchdog {
  readonly #jobs: ReadonlyMap<string, number>;
  readonly #seen: Int32Array;
  readonly #worker: Worker | undefined;
  /** By job: the run that the thread knows of. */
  readonly #runs: string[] = [];
  readonly #beat: NodeJS.Timeout;

  constructor(jobs: ReadonlyMap<string, Job>, margin: Milliseconds = MARGIN_MS) {
    const names = [...jobs.keys()];
    const limits = [...jobs.values()].map((job) => job.manifest.timeout + margin);
    const shared = new SharedArrayBuffer((CHUNKS + 2 * names.length) * Int32Array.BYTES_PER_ELEMENT);
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
    if (job >= 0) this.#begin(job, chunk);
    return {
      entering: (index) => {
        Atomics.store(seen, ITEM, positionOf(chunk, index));
        Atomics.store(seen, JOB, job + 1);
      },
      left: () => Atomics.store(seen, JOB, 0),
      ended: () => undefined,
    };
  }

  /** A message takes longer than a chunk of quick items, so only a new run is worth one. */
  #begin(job: number, { runId, generation, seq }: Chunk): void {
    Atomics.store(this.#seen, CHUNKS + 2 * job, generation);
    Atomics.store(this.#seen, CHUNKS + 2 * job + 1, seq);
    if (this.#runs[job] === runId) return;
    this.#runs[job] = runId;
    this.#worker?.postMessage([job, runId]);
  }

  async close(): Promise<void> {
    clearInterval(this.#beat);
    await this.#worker?.terminate();
  }
}
