import { readdir, readFile } from 'node:fs/promises';

interface Entry {
  readonly pid: number;
  readonly parent: number;
}

/** `pid` and its living descendants, parents first. Linux only. PostgreSQL gives each backend a session of its own, so a process group misses them. */
export async function processTree(pid: number): Promise<number[]> {
  const entries = await livingProcesses();
  const tree = entries.some((entry) => entry.pid === pid) ? [pid] : [];
  for (const parent of tree) for (const entry of entries) if (entry.parent === parent) tree.push(entry.pid);
  return tree;
}

export async function isAlive(pid: number): Promise<boolean> {
  return (await readEntry(String(pid))) !== undefined;
}

async function livingProcesses(): Promise<Entry[]> {
  const names = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  return (await Promise.all(names.map(readEntry))).filter((entry) => entry !== undefined);
}

/** Undefined for a process that is gone or only waits to be collected. */
async function readEntry(name: string): Promise<Entry | undefined> {
  const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
  // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
  const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return stat === '' || state === 'Z' || state === 'X' ? undefined : { pid: Number(name), parent: Number(parent) };
}

/** Sends the signal to each process that still exists. */
export function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}
