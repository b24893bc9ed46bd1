import { spawn } from 'node:child_process';

/** Ends what a test left behind, even after SIGKILL of the test: `atEnd` names what to do, `release` says there is nothing left to do. */
export interface Guard {
  atEnd(shellCommand: string): void;
  release(): void;
}

/**
 * An exit handler is not enough (Jest replaces `process`, SIGKILL runs none), so a shell waits for the end of its input, which comes when this
 * process ends for whatever reason, and then runs the last command it was given.
 */
export function startGuard(): Guard {
  const script = 'last=:; while IFS= read -r line; do last=$line; done; eval "$last"';
  const shell = spawn('sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  shell.unref();
  shell.stdin.on('error', () => {});
  // The pipe must not keep the test run alive.
  (shell.stdin as typeof shell.stdin & { unref(): void }).unref();
  return {
    atEnd: (command) => void shell.stdin.write(`${command}\n`),
    release: () => void shell.stdin.end(':\n'),
  };
}
