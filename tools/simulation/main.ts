import { parseArgs } from 'node:util';
import { Mutants } from './mutants.ts';
import { profileOf } from './profiles.ts';
import { type Verdict, World } from './world.ts';

/** What a child says of its share, as the last line. */
export interface Report {
  readonly seeds: number;
  readonly firstFailed: number | undefined;
  readonly violation: string | undefined;
  /** Of all event logs together, in whatever order. */
  readonly hash: string;
  readonly runs: number;
  readonly items: number;
  readonly events: number;
  readonly virtual: number;
  readonly seconds: number;
  /** Seconds of CPU, which a busy machine changes less than the clock. */
  readonly cpu: number;
  readonly fired: readonly (readonly [string, number])[];
  readonly happened: readonly (readonly [string, number])[];
}

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '500' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    mutant: { type: 'string' },
    /** Only seeds of this kind: so many of them. */
    profile: { type: 'string' },
    echo: { type: 'boolean', default: false },
    'keep-going': { type: 'boolean', default: false },
  },
});

// Traces of thousands of simulated errors cost more than the simulation; a replay has them.
if (values.seed === undefined) Error.stackTraceLimit = 0;
const from = Number(values.seed ?? values.from);
const mutants = new Mutants(values.mutant === undefined ? [] : [values.mutant]);
const started = performance.now();
const fired = new Map<string, number>();
const happened = new Map<string, number>();
let hash = 0n;
let virtual = 0;
let events = 0;
let items = 0;
let runs = 0;
const failed: Verdict[] = [];
let seeds = 0;

for (const seed of seedsOf(from, values.seed === undefined ? Number(values.seeds) : 1)) {
  const verdict = await new World(seed, mutants, values.echo).run();
  seeds++;
  hash ^= BigInt(`0x${verdict.hash}`);
  virtual += verdict.virtual;
  events += verdict.events;
  items += verdict.items;
  runs += verdict.runs;
  for (const [pair, count] of verdict.faults.fired) fired.set(pair, (fired.get(pair) ?? 0) + count);
  for (const [event, count] of verdict.faults.events) happened.set(event, (happened.get(event) ?? 0) + count);
  if (values.seed !== undefined)
    console.log(`seed ${seed}: hash ${verdict.hash}, ${verdict.events} events, ${verdict.virtual} ms of virtual time`);
  if (verdict.violations.length === 0) continue;
  failed.push(verdict);
  if (!values['keep-going']) break;
}

const seconds = (performance.now() - started) / 1_000;
for (const verdict of failed.slice(0, 5)) {
  if (!values['keep-going']) for (const line of verdict.tail.slice(-80)) console.log(line);
  console.log(`\nseed ${verdict.seed} (${verdict.profile}) FAILED:`);
  for (const violation of verdict.violations.slice(0, 12)) console.log(`  ${violation}`);
  console.log(`  replay: npm run sim -- --seed ${verdict.seed}${values.mutant ? ` --mutant ${values.mutant}` : ''} --echo`);
}
const report: Report = {
  seeds,
  firstFailed: failed[0]?.seed,
  violation: failed[0]?.violations[0],
  hash: hash.toString(16),
  runs,
  items,
  events,
  virtual,
  seconds,
  cpu: (process.cpuUsage().user + process.cpuUsage().system) / 1e6,
  fired: [...fired],
  happened: [...happened],
};
console.log(JSON.stringify(report));
if (failed.length > 0) process.exitCode = 1;

function* seedsOf(first: number, count: number): Generator<number> {
  for (let seed = first, given = 0; given < count; seed++) {
    if (values.profile !== undefined && profileOf(seed).name !== values.profile) continue;
    given++;
    yield seed;
  }
}
