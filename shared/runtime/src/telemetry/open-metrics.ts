import { metrics } from '@opentelemetry/api';
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import { VERSION } from '../version.ts';

/** Sets the meter provider of this process; returns what writes its page. Loaded when it is first needed. */
export function openMetrics(): () => Promise<string> {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const serializer = new PrometheusSerializer(undefined, false, undefined, true, true);
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [exporter] }));
  metrics
    .getMeter('millrace')
    .createObservableGauge('millrace_build_info', { description: 'What runs here.' })
    .addCallback((result) => result.observe(1, { version: VERSION, node: process.versions.node }));
  return async () => serializer.serialize((await exporter.collect()).resourceMetrics);
}
