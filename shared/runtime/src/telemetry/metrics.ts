/** The content type of `metricsText`. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Seconds, from a row of work to a night's run. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400];

/** Options of a histogram whose values are seconds. */
export function inSeconds(description: string) {
  return { description, unit: 's', advice: { explicitBucketBoundaries: SECONDS } };
}

let text: Promise<() => Promise<string>> | undefined;

/**
 * Collects metrics from here on, in this process, for `metricsText`. Call it before services are made: instruments that were made earlier
 * count nothing. Twice is fine.
 */
export async function startMetrics(): Promise<void> {
  text ??= import('./open-metrics.ts').then(({ openMetrics }) => openMetrics());
  await text;
}

/** What /metrics answers, in Prometheus' text format. */
export async function metricsText(): Promise<string> {
  await startMetrics();
  return text === undefined ? '' : (await text)();
}
