import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';

const ROOT = join(import.meta.dirname, '..');
const SERVICES = ['audit', 'clock', 'console', 'planner', 'processor'];

/** The projects that `nx affected -t <target>` would take after a change of `file`. */
async function affected(file: string, target: string): Promise<string[]> {
  const args = ['nx', 'show', 'projects', '--affected', `--files=${file}`, `--with-target=${target}`];
  const { stdout } = await promisify(execFile)('npx', args, { cwd: ROOT, env: { ...process.env, NX_DAEMON: 'false' } });
  return stdout
    .trim()
    .split(/\s+/)
    .map((name) => name.replace('@millrace/', ''))
    .sort();
}

test('nx affected takes what a change touches: one service and the command that holds it, all images, or nothing', async () => {
  const [one, images, none] = await Promise.all([
    affected('services/clock/src/clock.ts', 'build'),
    affected('deploy/docker/Dockerfile', 'image'),
    affected('docs/flow.md', 'build'),
  ]);
  expect({ one, images, none }).toEqual({ one: ['cli', 'clock'], images: ['cli', ...SERVICES].sort(), none: [''] });
}, 60_000);
