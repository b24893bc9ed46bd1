/**
 * `npm run chaos -- --scenario mixed --items 100000 --seed 7`: real service processes on private servers, faults drawn from a seed, and
 * afterwards the invariants asked of the databases. Exit code 1 when one is broken.
 */
import { parseArgs } from 'node:util';
import { runChaos } from './chaos.ts';
import { textOf } from './report.ts';
import { SCENARIOS, type Scenario, type ScenarioName } from './scenarios.ts';

const { values } = parseArgs({
  options: {
    scenario: { type: 'string', default: 'kill' },
    items: { type: 'string' },
    pace: { type: 'string' },
    minutes: { type: 'string', default: '15' },
    seed: { type: 'string' },
    standstill: { type: 'string', default: '35' },
    alarm: { type: 'string', default: '60' },
    services: { type: 'string', default: 'clock,clock,planner,planner,processor,processor,audit,audit,console' },
    times: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
});

const names = values.scenario === 'all' ? (Object.keys(SCENARIOS) as ScenarioName[]) : values.scenario.split(',');
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9));
let broken = 0;
for (const name of names) {
  const scenario: Scenario | undefined = SCENARIOS[name as ScenarioName];
  if (!scenario) {
    process.stderr.write(`no scenario "${name}"; there are ${Object.keys(SCENARIOS).join(', ')} and all\n`);
    process.exit(2);
  }
  const report = await runChaos({
    name,
    scenario: {
      ...scenario,
      ...(values.items ? { items: Number(values.items) } : {}),
      ...(values.pace ? { pace: Number(values.pace) } : {}),
      single: scenario.single.map(({ fault, times }) => ({ fault, times: Number(values.times ?? times) })),
    },
    seed,
    within: Number(values.minutes) * 60_000,
    standstill: Number(values.standstill) * 1_000,
    alarm: Number(values.alarm) * 1_000,
    services: values.services.split(','),
    keep: values.keep,
    say: (line) => process.stderr.write(`${line}\n`),
  });
  process.stdout.write(`${textOf(name, seed, report)}\n`);
  broken += report.violations.length;
}
process.exit(broken > 0 ? 1 : 0);
