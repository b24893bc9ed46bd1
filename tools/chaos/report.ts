import type { Report } from './chaos.ts';
import { seconds } from './seconds.ts';

/** Coverage, recovery, totals and the verdict, as Markdown. */
export function textOf(name: string, seed: number, report: Report): string {
  const { violations, fired, recovery, memory } = report;
  const faults = [...fired].sort(([a], [b]) => (a < b ? -1 : 1));
  const recovered = [...recovery.values()].flat();
  return [
    `\n## ${name}, seed ${seed}: ${violations.length === 0 ? 'every invariant held' : `${violations.length} VIOLATIONS`}`,
    '',
    '| fault | fired | recovery p50 | p95 | most |',
    '|---|---|---|---|---|',
    ...faults.map(([fault, times]) => `| ${fault} | ${times} | ${timesOf(recovery.get(fault) ?? [])} |`),
    ...(recovered.length > 0 ? [`| all single faults | ${recovered.length} | ${timesOf(recovered)} |`] : []),
    '',
    `${report.items} items in ${report.runs} run(s), closed after ${report.seconds.toFixed(1)} s (${Math.round(report.items / report.seconds)} items/s).`,
    `The longest pause in which no chunk was settled: ${seconds(report.longestPause)}.`,
    `Items were given to their job ${report.calls.mean.toFixed(2)} times per attempt in the mean, ${report.calls.most} at most.`,
    `Peak memory: ${[...memory].map(([service, used]) => `${service} ${Math.round(used)} MiB`).join(', ')}.`,
    ...(report.alarmGrowth === undefined
      ? []
      : [`During the memory alarm a process grew by ${report.alarmGrowth.toFixed(1)} MiB at most.`]),
    ...(report.slowness > 1
      ? [`The machine is slow: faults came ${report.slowness.toFixed(1)} times more slowly than the scenario says.`]
      : []),
    `${report.refusedStarts} starts were refused because a server was away.`,
    ...violations.map((violation) => `\n- VIOLATION ${violation}`),
    ...(violations.length > 0 ? [`\nLogs of the services: ${report.logs}`] : []),
  ].join('\n');
}

function timesOf(times: readonly number[]): string {
  if (times.length === 0) return ' | | ';
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number) => seconds(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] as number);
  return `${at(0.5)} | ${at(0.95)} | ${seconds(sorted.at(-1) as number)}`;
}
