import { formatInstant, type Instant, sumCounts } from '@millrace/core';
import { spanContextOf } from '@millrace/runtime';
import Type, { type Static } from 'typebox';
import type { FailureGroup, LedgerRun } from './ledger.ts';

const Count = Type.Integer({ minimum: 0 });
const Nullable = <S extends Parameters<typeof Type.Union>[0][number]>(schema: S) => Type.Union([schema, Type.Null()]);

export const FailureGroupView = Type.Object({ fingerprint: Type.String(), title: Type.String(), class: Type.String(), count: Count });

/** A run as people and scripts see it: the object that `millrace run --wait -o json` ends with. */
export const RunView = Type.Object({
  runId: Type.String(),
  job: Type.String(),
  tick: Type.String(),
  cause: Type.String(),
  generation: Count,
  state: Type.Union([Type.Literal('planning'), Type.Literal('running'), Type.Literal('closed')]),
  verdict: Nullable(Type.String()),
  counts: Type.Object({
    planned: Count,
    applied: Count,
    skipped: Count,
    duplicate: Count,
    failed: Count,
    rejected: Count,
    cancelled: Count,
    expired: Count,
    indeterminate: Count,
  }),
  progress: Type.Object(
    { done: Count, planned: Count, fraction: Type.Number() },
    { description: 'Items with a final outcome. The plan still grows while state is "planning".' },
  ),
  startedAt: Type.String(),
  closedAt: Nullable(Type.String()),
  durationMs: Count,
  itemsPerSecond: Type.Number({ description: 'Over the current generation.' }),
  planError: Nullable(Type.Object({ code: Type.String(), message: Type.String() })),
  failureGroups: Type.Array(FailureGroupView),
  traceId: Nullable(Type.String({ description: 'The run trace, from tick to close; null where nothing was traced.' })),
  traceUrl: Nullable(Type.String({ description: 'The trace in Jaeger, where MILLRACE_JAEGER_URL says where that is.' })),
});
export type RunView = Static<typeof RunView>;

/** Duration and rate are of the current generation: a redrive a day later did not take a day. */
export function viewOf(run: LedgerRun, failureGroups: readonly FailureGroup[], now: Instant, jaegerUrl?: string): RunView {
  const traceId = spanContextOf(run.trace)?.traceId ?? null;
  const done = sumCounts(run.counts);
  const durationMs = Math.max(0, (run.closedAt ?? now) - run.passOpenedAt);
  const handled = run.generation === 0 ? done : Math.max(0, (run.passItems ?? 0) - (run.planned - done));
  return {
    runId: run.runId,
    job: run.job,
    tick: run.tick,
    cause: run.cause,
    generation: run.generation,
    state: run.state,
    verdict: run.verdict,
    counts: { planned: run.planned, ...run.counts },
    progress: { done, planned: run.planned, fraction: run.planned > 0 ? Math.min(1, done / run.planned) : run.state === 'closed' ? 1 : 0 },
    startedAt: formatInstant(run.passOpenedAt),
    closedAt: run.closedAt === null ? null : formatInstant(run.closedAt),
    durationMs,
    itemsPerSecond: durationMs > 0 ? Math.round((handled * 10_000) / durationMs) / 10 : 0,
    planError: run.planError && { code: String(run.planError.code), message: String(run.planError.message) },
    failureGroups: [...failureGroups],
    traceId,
    traceUrl: traceId !== null && jaegerUrl ? `${jaegerUrl.replace(/\/+$/, '')}/trace/${traceId}` : null,
  };
}
