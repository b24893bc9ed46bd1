import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { processTree } from '../shared/testing/src/process-tree.ts';

/** Processes by what they are: `postgres`, `planner`, `worker`. */
export type Processes = Readonly<Record<string, readonly number[]>>;

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** Seconds of processor time of each, with their children, living and collected. Linux only. */
export async function cpuSeconds(processes: Processes): Promise<Record<string, number>> {
  const seconds: Record<string, number> = {};
  for (const [name, roots] of Object.entries(processes)) {
    const trees = await Promise.all(roots.map(processTree));
    seconds[name] = trees.flat().reduce((sum, pid) => sum + ticksOf(pid), 0) / TICKS_PER_SECOND;
  }
  return seconds;
}

/** utime, stime, and those of children that have ended (a PostgreSQL backend counts for its postmaster then). */
function ticksOf(pid: number): number {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0) || 0;
}

/** The most memory that any single process of each has held so far, in MB. Shared memory counts for everyone who touched it. */
export async function peakMemory(processes: Processes): Promise<Record<string, number>> {
  const peaks: Record<string, number> = {};
  for (const [name, roots] of Object.entries(processes)) {
    const peak = Math.max(0, ...roots.map((pid) => Number(/VmHWM:\s+(\d+) kB/.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)));
    peaks[name] = Math.round(peak / 1024);
  }
  return peaks;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
