import { writeSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { messageOf } from '@millrace/core';
import { loadJobs, openLog, systemTime } from '@millrace/runtime/jobs';
import type { Job } from 'millrace';
import { takeResult } from '../domain/results.ts';
import { runItems } from '../run-items.ts';
import { Slots } from '../slots.ts';
import { type ChildNote, type ChildWork, NOTES_FD } from './child-protocol.ts';

/**
 * Entry of the processes that run suspicious items: loads the jobs, then runs what it is sent. It has no connection but
 * the one to its processor, and ends with it.
 */
const [jobsPath = '', instance = ''] = process.argv.slice(2);
const log = openLog('processor', `${instance}-${process.pid}`, process.env['MILLRACE_LOG_LEVEL'] || 'info');

function note(work: number, item: number): void {
  const pair = Buffer.allocUnsafe(8);
  pair.writeInt32LE(work, 0);
  pair.writeInt32LE(item, 4);
  writeSync(NOTES_FD, pair);
}

function tell(message: ChildNote): void {
  process.send?.(message);
}

// When memory runs out, the kernel shall end this process and not the one beside it.
await writeFile('/proc/self/oom_score_adj', '1000').catch(() => undefined);
process.on('disconnect', () => process.exit(0));
// A child in an endless loop does not notice that its processor has died: a thread of its own does.
new Worker(
  `const parent = process.ppid; setInterval(() => { if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL'); }, 1000);`,
  { eval: true, execArgv: [] },
).unref();
try {
  const jobs = await loadJobs(jobsPath);
  process.on('message', (work: ChildWork) => void run(jobs.get(work.job), work));
  tell({ ready: true });
} catch (error) {
  tell({ failed: messageOf(error) });
}

async function run(job: Job | undefined, { work, job: name, chunk, concurrency, budget }: ChildWork): Promise<void> {
  if (!job) return tell({ failed: `there is no job "${name}" in ${jobsPath}` });
  await runItems({
    job,
    chunk,
    todo: chunk.items.map((_, index) => index),
    slots: new Slots(concurrency),
    time: systemTime,
    log,
    until: systemTime.now() + budget,
    signal: new AbortController().signal,
    watch: {
      entering: (index) => note(work, index),
      left: () => undefined,
      ended: (index, results) => {
        const result = takeResult(results, index);
        if (result) tell({ work, ended: index, result });
        note(work, ~index);
      },
    },
  });
  tell({ work, over: true });
}
