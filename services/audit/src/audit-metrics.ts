import { type Counts, OUTCOMES, type RunClosed } from '@millrace/core';
import { inSeconds } from '@millrace/runtime';
import { metrics } from '@opentelemetry/api';
import type { LedgerStore } from './ledger-store.ts';

/** What the audit counts while it folds, and what it asks the ledger when somebody looks. Never a run id or a key as a label. */
export class AuditMetrics {
  readonly #items;
  readonly #duration;

  constructor(store: Pick<LedgerStore, 'standing'>) {
    const meter = metrics.getMeter('@millrace/audit');
    this.#items = meter.createCounter('millrace_items_total', { description: 'Items that got their final outcome.' });
    this.#duration = meter.createHistogram('millrace_run_duration_seconds', inSeconds('From the opening of a run to its close.'));
    const unaccounted = meter.createObservableGauge('millrace_ledger_unaccounted_items', {
      description: 'Planned items without a final outcome: those of open runs, and leaks.',
    });
    const lastSuccess = meter.createObservableGauge('millrace_run_last_success_timestamp_seconds', {
      description: 'When a run of the job last closed as succeeded.',
      unit: 's',
    });
    meter.addBatchObservableCallback(
      async (result) => {
        for (const { job, unaccounted: items, lastSuccess: at } of await store.standing()) {
          result.observe(unaccounted, items, { job });
          if (at !== null) result.observe(lastSuccess, at / 1_000, { job });
        }
      },
      [unaccounted, lastSuccess],
    );
  }

  /** A redrive takes outcomes back; a counter cannot, so only what is gained counts. */
  gained(byJob: ReadonlyMap<string, Counts>): void {
    for (const [job, counts] of byJob)
      for (const outcome of OUTCOMES) if (counts[outcome] > 0) this.#items.add(counts[outcome], { job, outcome });
  }

  closed(runs: readonly RunClosed[]): void {
    for (const { job, verdict, openedAt, closedAt } of runs)
      this.#duration.record(Math.max(0, closedAt - openedAt) / 1_000, { job, verdict });
  }
}
