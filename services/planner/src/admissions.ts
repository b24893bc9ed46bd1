import type { Instant, JobManifest } from '@millrace/core';
import { inSeconds } from '@millrace/runtime';
import { metrics } from '@opentelemetry/api';
import { type AdmitCause, AdmitSpans } from './admit-spans.ts';
import type { AdmittedTicks, PlanStore } from './plan-store.ts';

/** Lets ticks be decided, whoever noticed that they are due, and counts what became of them. */
export class Admissions {
  readonly #store: Pick<PlanStore, 'admitTicks'>;
  readonly #ticks;
  readonly #lag;

  constructor(store: Pick<PlanStore, 'admitTicks'>) {
    this.#store = store;
    const meter = metrics.getMeter('@millrace/planner');
    this.#ticks = meter.createCounter('millrace_ticks_total', { description: 'Nominal ticks by what became of them.' });
    this.#lag = meter.createHistogram(
      'millrace_tick_lag_seconds',
      inSeconds('From the nominal instant of a tick to the admission of its run.'),
    );
  }

  async admit(manifest: JobManifest, until: Instant, cause: Pick<AdmitCause, 'message' | 'parent'> = {}): Promise<AdmittedTicks> {
    const spans = new AdmitSpans({ ...cause, job: manifest.name, cause: 'tick' });
    const admitted = await this.#store.admitTicks(manifest, until, spans.traceOf);
    spans.end(admitted.opened);
    for (const [result, ticks] of Object.entries(admitted.decided)) if (ticks > 0) this.#ticks.add(ticks, { job: manifest.name, result });
    if (admitted.opened.length > 0 && admitted.lag !== undefined) this.#lag.record(admitted.lag / 1_000, { job: manifest.name });
    return admitted;
  }
}
