import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { MillraceError, messageOf } from '@millrace/core';
import { checkJobs, isJob, type Job } from 'millrace';
import { importModule } from './import-module.ts';

const JOB_FILE = /^(?:.+\.)?job\.(?:ts|mts|js|mjs)$/;
const SKIPPED = new Set(['node_modules', '__tests__', 'dist']);

/**
 * The jobs that a file, or the job files below a folder, export: `job.ts`, `job.js`, `job.mjs` and `*.job.*`.
 * Throws MR2002 when there are none, MR2003 for a file that fails to load, and what `checkJobs` finds wrong with the set.
 */
export async function loadJobs(path: string): Promise<ReadonlyMap<string, Job>> {
  const root = resolve(path);
  const jobs: Job[] = [];
  for (const file of await jobFiles(root)) jobs.push(...(await jobsIn(file)));
  if (jobs.length === 0) throw new MillraceError('MR2002', `in ${root}`);
  return checkJobs(jobs);
}

async function jobFiles(root: string): Promise<string[]> {
  const found = await stat(root).catch(() => undefined);
  if (!found) throw new MillraceError('MR2002', `${root} does not exist`);
  return found.isDirectory() ? below(root) : [root];
}

/** In the order of their names, so that a second job of a name is always the same one. */
async function below(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const files: string[] = [];
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith('.') || SKIPPED.has(entry.name)) continue;
    const path = join(folder, entry.name);
    const target = entry.isSymbolicLink() ? await stat(path).catch(() => undefined) : entry;
    // Folders are not followed through links: two of them can lead in a circle.
    if (entry.isDirectory()) files.push(...(await below(path)));
    else if (target?.isFile() && JOB_FILE.test(entry.name)) files.push(path);
  }
  return files;
}

async function jobsIn(file: string): Promise<Job[]> {
  try {
    return Object.values(await importModule(file)).filter(isJob);
  } catch (cause) {
    throw new MillraceError('MR2003', `${file}: ${messageOf(cause)}${placeIn(file, cause)}`, { cause });
  }
}

/** Line and column in the user's own file, for errors that are shown without their stack. */
function placeIn(file: string, error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  const at = stack.indexOf(`${file}:`);
  const place = at < 0 ? undefined : /^\d+(:\d+)?/.exec(stack.slice(at + file.length + 1))?.[0];
  return place ? ` (line ${place})` : '';
}
