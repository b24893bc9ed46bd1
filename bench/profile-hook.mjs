// Loaded into a process that is to be profiled: SIGUSR2 starts Node's profiler, and a second one writes what it saw.
import { mkdirSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { basename, dirname } from 'node:path';

const session = new Session();
let running = false;
process.on('SIGUSR2', () => {
  if (!running) {
    session.connect();
    session.post('Profiler.enable');
    session.post('Profiler.setSamplingInterval', { interval: 500 });
    session.post('Profiler.start');
  } else {
    session.post('Profiler.stop', (_, { profile }) => {
      const name = basename(dirname(dirname(process.argv[1] ?? ''))) || 'process';
      mkdirSync(process.env.BENCH_PROFILE, { recursive: true });
      writeFileSync(`${process.env.BENCH_PROFILE}/${name}-${process.pid}.cpuprofile`, JSON.stringify(profile));
      process.send?.({ kind: 'profiled' });
    });
    session.disconnect();
  }
  running = !running;
});
