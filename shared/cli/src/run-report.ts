import { OUTCOMES } from '@millrace/core';
import type { RunJson } from './console-api.ts';
import { clean, duration, number } from './output.ts';

/** `planned 138,398 = applied 138,390 + failed 8`: outcomes that did not occur are left out, the sum always holds for a closed run. */
export function equationOf(counts: Readonly<Record<string, number>>, open = 0): string {
  const parts = [...OUTCOMES.map((outcome) => [outcome, counts[outcome] ?? 0] as const), ['open', open] as const].filter(
    ([, count]) => count > 0,
  );
  return `planned ${number(counts['planned'] ?? 0)} = ${parts.map(([name, count]) => `${name} ${number(count)}`).join(' + ') || '0'}`;
}

const MARK: Readonly<Record<string, string>> = { succeeded: '✓', partial: '◑', failed: '✗', cancelled: '⊘', expired: '⌛' };

/** A closed run in a few lines. */
export function reportOf(run: RunJson): string {
  const lines = [
    `${MARK[run.verdict ?? ''] ?? '…'} ${clean(run.runId)}${run.generation > 0 ? ` (redrive ${run.generation})` : ''} ${run.verdict ?? run.state}`,
    `  ${equationOf(run.counts, run.counts.planned - run.progress.done)}`,
    `  ${duration(run.durationMs)}, ${number(Math.round(run.itemsPerSecond))} items/s`,
  ];
  if (run.traceId) lines.push(`  trace ${run.traceUrl ?? run.traceId}`);
  if (run.planError) lines.push(`  plan failed: ${clean(run.planError.message)}`);
  for (const group of run.failureGroups.slice(0, 5))
    lines.push(`  ${number(group.count)} × ${clean(group.title)} (${group.class}, group ${group.fingerprint})`);
  if (run.failureGroups.length > 5) lines.push(`  … and ${run.failureGroups.length - 5} more groups`);
  if (run.state === 'closed' && run.failureGroups.length > 0) lines.push(`  retry them: millrace redrive '${clean(run.runId)}'`);
  return lines.join('\n');
}

/** An open run in one line. */
export function progressOf(run: RunJson): string {
  const { done, planned } = run.progress;
  const failing = (run.counts['failed'] ?? 0) + (run.counts['rejected'] ?? 0);
  const share =
    run.state === 'planning'
      ? `done ${number(done)}, the plan still grows`
      : `${number(done)} / ${number(planned)} (${Math.floor(run.progress.fraction * 100)} %)`;
  return `${clean(run.runId)} ${run.state} ${share}${failing > 0 ? `, ${number(failing)} failing` : ''}, ${number(Math.round(run.itemsPerSecond))} items/s`;
}
