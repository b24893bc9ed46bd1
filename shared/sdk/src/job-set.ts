import { MillraceError } from '@millrace/core';
import type { Job } from './job.ts';

/**
 * The rules between jobs, checked when they are loaded together. Throws MR1009 (two jobs of one name), MR1011 (`after`
 * names a job that is not there) or MR1010 (a circle, with its members in order).
 */
export function checkJobs(jobs: Iterable<Job>): ReadonlyMap<string, Job> {
  const byName = new Map<string, Job>();
  for (const job of jobs) {
    const known = byName.get(job.name);
    // One job exported under two names is still one job.
    if (known && known !== job) throw new MillraceError('MR1009', `"${job.name}" is defined twice`);
    byName.set(job.name, job);
  }
  for (const job of byName.values()) {
    for (const { job: cause } of job.manifest.after) {
      if (!byName.has(cause))
        throw new MillraceError(
          'MR1011',
          `job "${job.name}" runs after "${cause}"; known are ${[...byName.keys()].map((name) => `"${name}"`).join(', ')}`,
        );
    }
  }
  const circle = findCircle(byName);
  if (circle) throw new MillraceError('MR1010', circle.map((name) => `"${name}"`).join(' runs after '));
  return byName;
}

/** A path that ends where it began, or undefined. Iterative: chains of jobs may be long. */
function findCircle(jobs: ReadonlyMap<string, Job>): string[] | undefined {
  const finished = new Set<string>();
  for (const start of jobs.keys()) {
    const path: { name: string; next: number }[] = [{ name: start, next: 0 }];
    const onPath = new Set([start]);
    for (let top = path.at(-1); top && !finished.has(start); top = path.at(-1)) {
      const cause = jobs.get(top.name)?.manifest.after[top.next++]?.job;
      if (cause === undefined) {
        finished.add(top.name);
        onPath.delete(top.name);
        path.pop();
      } else if (onPath.has(cause)) {
        const names = path.map(({ name }) => name);
        return [...names.slice(names.indexOf(cause)), cause];
      } else if (!finished.has(cause)) {
        path.push({ name: cause, next: 0 });
        onPath.add(cause);
      }
    }
  }
  return undefined;
}
