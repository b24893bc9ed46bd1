import { expect, test } from '@jest/globals';
import { type Report, runChaos } from './chaos.ts';
import { textOf } from './report.ts';
import { SCENARIOS, type Scenario } from './scenarios.ts';

/** The short form of `npm run chaos`: the same harness, 100,000 items in all. A new seed each time; a failure prints it with the whole report. */
async function survive(name: string, scenario: Scenario): Promise<Report> {
  const seed = Math.floor(Math.random() * 1e9);
  const report = await runChaos({
    name,
    scenario,
    seed,
    within: 10 * 60_000,
    standstill: 15_000,
    alarm: 60_000,
    services: ['clock', 'clock', 'planner', 'planner', 'processor', 'processor', 'audit', 'console'],
    keep: false,
    say: () => {},
  });
  process.stderr.write(`${textOf(name, seed, report)}\n`);
  expect(report.violations).toEqual([]);
  // Each fault did strike.
  for (const { fault, times } of scenario.single) expect([fault, report.fired.get(fault)]).toEqual([fault, times]);
  return report;
}

const once = (...faults: readonly string[]) => faults.map((fault) => ({ fault, times: 1 }));

test('a service is killed every 3 s, servers crash and restart, one forgets everything: the books are exact', async () => {
  const single = once('crash rabbit', 'restart postgres', 'wipe nats', 'crash postgres');
  const report = await survive('kill and crash', { ...SCENARIOS.kill, items: 80_000, pace: 10, single });
  expect(report.items).toBeGreaterThanOrEqual(80_000);
  expect([...report.fired.keys()].some((fault) => fault.startsWith('kill '))).toBe(true);
}, 660_000);

test('both brokers wiped, then a minute of memory alarm: work flows again, and no process grows', async () => {
  const single = once('wipe both brokers', 'memory alarm');
  const report = await survive('wipe and alarm', { ...SCENARIOS.wipe, items: 20_000, pace: 20, single });
  expect(report.items).toBeGreaterThanOrEqual(20_000);
  expect(report.alarmGrowth).toBeLessThanOrEqual(64);
}, 660_000);
