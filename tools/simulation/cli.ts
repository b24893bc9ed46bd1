// npm run sim -- [--seeds 500] [--from 1] | --seed N [--echo] [--mutant name] | --mutants [name …]
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative, sep } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { PAIRS, POINTS, pairName, type Role } from './faults.ts';
import type { Report } from './main.ts';
import { PLANTED_BUGS, type PlantedBug } from './planted-bugs.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const OUT = join(ROOT, 'node_modules', '.cache', 'millrace-simulation');
/** Each planted bug must be found within this many seeds. */
const PATIENCE = 500;
/** A seed runs much code a few times: compiling it at its best would take a quarter of the time. */
const V8_FLAGS = '--always-sparkplug --interrupt-budget=400000 --max-inlined-bytecode-size=100 --max-inlined-bytecode-size-cumulative=100';
const UNUSED = /^(nats|@nats-io\/.*|amqplib|pg|pg-copy-streams|pino|@electric-sql\/.*)$/;
const AT_ONCE = availableParallelism();

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seeds: { type: 'string', default: '500' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    mutant: { type: 'string' },
    mutants: { type: 'boolean', default: false },
    echo: { type: 'boolean', default: false },
    least: { type: 'string', default: '1' },
  },
});

if (values.mutants) process.exitCode = (await plantAll(positionals)) ? 0 : 1;
else if (values.seed !== undefined) process.exitCode = await replay(values.seed, values.mutant, values.echo);
else process.exitCode = (await simulate(Number(values.from), Number(values.seeds), Number(values.least))) ? 0 : 1;

/** The simulation in one file; the patches of a planted bug are applied on the way. Throws when one of them finds no place, or several. */
async function bundle(bug?: PlantedBug): Promise<string> {
  mkdirSync(OUT, { recursive: true });
  const name = bug?.patches ? bug.name : 'honest';
  const outfile = join(OUT, `${name}.mjs`);
  const patched = new Set<string>();
  await build({
    entryPoints: [join(import.meta.dirname, 'main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'error',
    inject: [join(import.meta.dirname, 'signals.ts')],
    banner: { js: `import v8 from 'node:v8';\nv8.setFlagsFromString(${JSON.stringify(V8_FLAGS)});` },
    plugins: [
      {
        name: 'sources',
        setup(hooks) {
          hooks.onResolve({ filter: /^(@millrace\/|millrace$)/ }, ({ path }) => ({ path: workspaceFile(path) }));
          // Clients of real brokers and databases are named by code that no simulation runs.
          hooks.onResolve({ filter: UNUSED }, ({ path }) => ({ path, external: true, sideEffects: false }));
          hooks.onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const file = relative(ROOT, path).split(sep).join('/');
            let contents = readFileSync(path, 'utf8');
            for (const patch of bug?.patches ?? []) {
              if (patch.file !== file) continue;
              const places = contents.split(patch.find).length - 1;
              if (places !== 1) throw new Error(`${bug?.name}: ${places} places in ${file} hold ${JSON.stringify(patch.find)}, expected 1`);
              contents = contents.replace(patch.find, () => patch.replace);
              patched.add(`${patch.file} ${patch.find}`);
            }
            return { contents, loader: 'ts' };
          });
        },
      },
    ],
  });
  const missing = (bug?.patches ?? []).filter((patch) => !patched.has(`${patch.file} ${patch.find}`));
  if (missing.length > 0) throw new Error(`${bug?.name}: ${missing.map(({ file }) => file).join(', ')} is not part of the simulation`);
  return outfile;
}

function workspaceFile(name: string): string {
  const folder = name === 'millrace' ? 'sdk' : name.slice('@millrace/'.length);
  return join(ROOT, 'shared', folder, 'src', 'index.ts');
}

function run(file: string, args: readonly string[], show: boolean): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [file, ...args], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const take = (data: Buffer) => {
      if (show) process.stdout.write(data);
      output += data.toString();
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

/** The report is the last line that the child prints. */
function reportOf(output: string): Report | undefined {
  try {
    return JSON.parse(output.trimEnd().split('\n').at(-1) ?? '') as Report;
  } catch {
    return undefined;
  }
}

async function replay(seed: string, mutant: string | undefined, echo: boolean): Promise<number> {
  const bug = PLANTED_BUGS.find(({ name }) => name === mutant);
  if (mutant !== undefined && !bug) throw new Error(`no planted bug is called "${mutant}"`);
  const file = await bundle(bug);
  const { code } = await run(file, ['--seed', seed, ...(bug ? ['--mutant', bug.name] : []), ...(echo ? ['--echo'] : [])], true);
  return code;
}

async function simulate(from: number, seeds: number, least: number): Promise<boolean> {
  const started = performance.now();
  const file = await bundle();
  const share = Math.ceil(seeds / AT_ONCE);
  const results = await Promise.all(
    Array.from({ length: AT_ONCE }, (_, i) => {
      const first = from + i * share;
      return run(file, ['--from', String(first), '--seeds', String(Math.max(0, Math.min(share, from + seeds - first)))], false);
    }),
  );
  const fired = new Map<string, number>();
  const happened = new Map<string, number>();
  let [sound, hash, done, events, runs, items, virtual, cpu] = [true, 0n, 0, 0, 0, 0, 0, 0];
  for (const { code, output } of results) {
    const report = reportOf(output);
    if (code !== 0 || !report) {
      console.log(output);
      sound = false;
    }
    if (!report) continue;
    for (const [pair, count] of report.fired) fired.set(pair, (fired.get(pair) ?? 0) + count);
    for (const [event, count] of report.happened) happened.set(event, (happened.get(event) ?? 0) + count);
    hash ^= BigInt(`0x${report.hash}`);
    done += report.seeds;
    events += report.events;
    runs += report.runs;
    items += report.items;
    virtual += report.virtual;
    cpu += report.cpu;
  }
  printCoverage(fired, happened);
  const seconds = (performance.now() - started) / 1_000;
  console.log(
    `\n${done} seeds, ${runs} runs, ${items} items, ${events} events, ${(virtual / 3_600_000).toFixed(1)} h of virtual time in ${seconds.toFixed(1)} s: ` +
      `${Math.round(done / seconds)} seeds/s, ${Math.round(done / cpu)} per second of CPU`,
  );
  console.log(`hash of all: ${hash.toString(16).padStart(16, '0')}`);
  const uncovered = sound ? PAIRS.map(pairName).filter((pair) => (fired.get(pair) ?? 0) < least) : [];
  if (uncovered.length > 0) console.log(`FAILED: fired less than ${least} times: ${uncovered.join(', ')}`);
  if (sound && uncovered.length === 0) console.log('0 lost, 0 doubled, 0 stuck; every fault struck at every place');
  return sound && uncovered.length === 0;
}

function printCoverage(fired: ReadonlyMap<string, number>, happened: ReadonlyMap<string, number>): void {
  const columns = ['crash before', 'crash after', 'pause before', 'pause after', 'fail before', 'fail after'];
  console.log(`${'place'.padEnd(36)}${columns.map((column) => column.padStart(14)).join('')}`);
  for (const role of Object.keys(POINTS) as Role[])
    for (const method of POINTS[role]) {
      const cells = columns.map((column) => {
        const [kind, phase] = column.split(' ');
        const name = `${role} ${method} ${kind} ${phase}`;
        return String(PAIRS.some((pair) => pairName(pair) === name) ? (fired.get(name) ?? 0) : '-').padStart(14);
      });
      console.log(`${`${role} ${method}`.padEnd(36)}${cells.join('')}`);
    }
  console.log(
    `\n${[...happened]
      .sort()
      .map(([event, count]) => `${event} ${count}`)
      .join(' · ')}`,
  );
}

/** Plants the bugs, as many at once as there are cores; false when the simulation misses one. */
async function plantAll(names: readonly string[]): Promise<boolean> {
  const started = performance.now();
  const bugs = PLANTED_BUGS.filter(({ name }) => names.length === 0 || names.includes(name));
  const waiting = [...bugs];
  let missed = 0;
  const worker = async () => {
    for (let bug = waiting.shift(); bug; bug = waiting.shift()) {
      const { output } = await bundle(bug).then(
        (file) => run(file, ['--seeds', String(PATIENCE), '--mutant', bug.name, ...(bug.profile ? ['--profile', bug.profile] : [])], false),
        (error: unknown) => ({ output: String(error) }),
      );
      const report = reportOf(output);
      const caught = report?.firstFailed !== undefined;
      if (!caught) missed++;
      console.log(
        `${bug.name.padEnd(32)}${caught ? `caught by seed ${String(report.firstFailed).padStart(3)}: ${report.violation?.slice(0, 110)}` : `ESCAPED ${report ? '' : output.slice(-500)}`}`,
      );
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  console.log(`\n${bugs.length - missed} of ${bugs.length} planted bugs caught in ${((performance.now() - started) / 1_000).toFixed(1)} s`);
  return missed === 0;
}
