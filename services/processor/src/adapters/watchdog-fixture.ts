import { sampleChunk, sampleJob } from '../processor-samples.ts';
import { EventLoopWatchdog } from './event-loop-watchdog.ts';

/**
 * A process with a watchdog, for its test. It says what it is at, and obeys one line of input: how many milliseconds to keep its event loop,
 * and where: in an item, between items, or once the watchdog is closed.
 */
const MARGIN = 1_000;
const TIMEOUT = 1_000;

const sample = sampleJob({ process: () => undefined });
const job = { ...sample, manifest: { ...sample.manifest, timeout: TIMEOUT } };
const watchdog = new EventLoopWatchdog(new Map([['sync', job]]), MARGIN);
const watch = watchdog.watch(sampleChunk(3, { seq: 7 }));
process.stdin.once('data', async (line) => {
  const [where, busy] = String(line).trim().split(' ');
  if (where === 'closed') await watchdog.close();
  if (where === 'item') watch.entering(2);
  for (const end = performance.now() + Number(busy); performance.now() < end; );
  watch.left();
  process.stdout.write('over\n');
  process.exit(0);
});
process.stdout.write('ready\n');
