import { type Envelope, type Instant, RunOpened, RunPlanFailed, RunPlanned, type Trace } from '@millrace/core';
import type { Publisher } from '@millrace/messaging';
import type { OwedFact, PlanStore } from './plan-store.ts';

export function factEnvelope(fact: OwedFact, at: Instant, trace: Trace): Envelope {
  switch (fact.kind) {
    case 'run.opened':
      return RunOpened.envelope(fact.data as RunOpened, at, trace);
    case 'run.planned':
      return RunPlanned.envelope(fact.data as RunPlanned, at, trace);
    case 'run.plan_failed':
      return RunPlanFailed.envelope(fact.data as RunPlanFailed, at, trace);
    default:
      return fact.kind satisfies never;
  }
}

/** Publishes facts that rows still owe. A crash in between repeats them, and their ids make that harmless. */
export async function payOwedFacts(store: PlanStore, events: Publisher, at: Instant, signal: AbortSignal): Promise<void> {
  for (const { runId, facts, trace } of await store.owedFacts(100)) {
    await events.publish(
      facts.map((fact) => factEnvelope(fact, at, trace)),
      { signal },
    );
    await store.clearOwed(runId, facts.length);
  }
}
