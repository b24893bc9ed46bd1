// `npm test`: everything, in the order in which it fails fastest. Arguments go to Jest.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '..');

run('node', '--import', 'tsx', 'tools/ensure-servers.ts');
run('npm', 'run', '--silent', 'check');
run(
  'node',
  '--experimental-vm-modules',
  '--disable-warning=ExperimentalWarning',
  'node_modules/jest/bin/jest.js',
  '--runInBand',
  // What a failed test leaves behind must not keep the run alive for ever: its summary has been printed by then.
  '--forceExit',
  ...process.argv.slice(2),
);

function run(command, ...args) {
  const program = command === 'node' ? process.execPath : command;
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` };
  const { status, error } = spawnSync(program, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}
