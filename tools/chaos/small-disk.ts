import { execFile } from 'node:child_process';
import { mkdir, rm, rmdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** What a server gives free while it cannot write is taken away again this often. */
const REFILL_EVERY = 100;

/** A file system of its own, in memory, so that it alone can be full. */
export interface SmallDisk {
  readonly path: string;
  /** Not a byte is left for this many milliseconds; afterwards there is as much room as before. */
  beFull(duration: number): Promise<void>;
  remove(): Promise<void>;
}

/** Needs Linux and the right to mount. */
export async function mountSmallDisk(path: string, mib: number): Promise<SmallDisk> {
  await mkdir(path);
  await run('mount', ['-t', 'tmpfs', '-o', `size=${mib}m,mode=1777`, 'millrace-chaos', path]).catch((cause: unknown) => {
    throw new Error('this scenario needs the right to mount file systems: run it as root', { cause });
  });
  return {
    path,
    async beFull(duration) {
      const fillers: string[] = [];
      const end = performance.now() + duration;
      do {
        const { bavail, bsize } = await statfs(path);
        const filler = join(path, `filler-${fillers.length}`);
        if (bavail > 0) fillers.push(filler);
        // Somebody else may have taken the rest meanwhile.
        if (bavail > 0) await run('fallocate', ['-l', String(bavail * bsize), filler]).catch(() => {});
        await delay(REFILL_EVERY);
      } while (performance.now() < end);
      for (const filler of fillers) await rm(filler, { force: true });
    },
    async remove() {
      await run('umount', ['-l', path]);
      await rmdir(path);
    },
  };
}

/** Room for what a scenario writes, several times. */
export const ROOM_MIB = { postgres: 768, nats: 256 } as const;
