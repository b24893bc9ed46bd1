import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { MillraceError } from '@millrace/core';

const FILE = 'millrace.lock';

/** Who holds a data directory. `url` is the API of a running `millrace dev`. */
export interface LockHolder {
  readonly pid: number;
  readonly host: string;
  readonly command: string;
  /** Start of the process in kernel ticks, where the system tells: a reused pid is another process. */
  readonly started: string | undefined;
  readonly url?: string;
}

export interface DirectoryLock {
  /** Tells others where to reach this process. */
  publish(url: string): void;
  release(): void;
}

/**
 * Two processes on one PGlite directory silently lose rows, and PGlite has no lock of its own.
 * Throws MR3008 naming the holder. The lock of a process that is gone is taken over.
 */
export function lockDirectory(directory: string): DirectoryLock {
  const file = join(directory, FILE);
  const me: LockHolder = { pid: process.pid, host: hostname(), command: process.argv.slice(1).join(' '), started: startOf(process.pid) };
  for (let attempt = 0; ; attempt++) {
    try {
      const handle = openSync(file, 'wx');
      writeSync(handle, JSON.stringify(me));
      closeSync(handle);
      break;
    } catch (cause) {
      if ((cause as { code?: string }).code !== 'EEXIST') throw cause;
      const holder = readLock(directory);
      if (holder || attempt >= 3) {
        throw new MillraceError(
          'MR3008',
          `${directory} is in use by process ${holder?.pid ?? 'unknown'} (${holder?.command ?? 'unreadable lock file'})`,
          { cause },
        );
      }
      rmSync(file, { force: true });
    }
  }
  let held = true;
  const release = () => {
    if (!held) return;
    held = false;
    process.off('exit', release);
    rmSync(file, { force: true });
  };
  process.on('exit', release);
  return { publish: (url) => writeFileSync(file, JSON.stringify({ ...me, url })), release };
}

/** The living process that holds the directory, if any. */
export function readLock(directory: string): LockHolder | undefined {
  const file = join(directory, FILE);
  if (!existsSync(file)) return undefined;
  let holder: LockHolder;
  try {
    holder = JSON.parse(readFileSync(file, 'utf8')) as LockHolder;
  } catch {
    return undefined;
  }
  // Another machine's process cannot be asked: believe the file.
  if (holder.host !== hostname()) return holder;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as { code?: string }).code === 'ESRCH') return undefined;
  }
  return holder.started === startOf(holder.pid) ? holder : undefined;
}

function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie holds nothing any more; it only waits for its parent.
    return fields[0] === 'Z' ? 'gone' : fields[19];
  } catch {
    return undefined;
  }
}
