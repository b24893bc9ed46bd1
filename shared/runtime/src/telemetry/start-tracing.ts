import { context, DiagLogLevel, diag, propagation, trace } from '@opentelemetry/api';
import type { Logger } from '../platform.ts';

export interface Tracing {
  /** Sends what is left, for at most three seconds: a collector that is away must not hold up the end of a process. */
  stop(): Promise<void>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The usual variables ask for traces: an OTLP endpoint or an exporter by name, and nothing that switches them off. */
export function wantsTracing(env: Environment): boolean {
  if (env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true' || env['OTEL_TRACES_EXPORTER'] === 'none') return false;
  return Boolean(env['OTEL_EXPORTER_OTLP_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || env['OTEL_TRACES_EXPORTER']);
}

/**
 * Starts the OpenTelemetry SDK, configured by OTEL_* alone; undefined when they ask for nothing. It is loaded only then, so
 * that without it nothing is paid. Spans wait in a bounded queue and are dropped when a collector does not take them.
 */
export async function startTracing(
  service: string,
  instance: string,
  log: Logger,
  env: Environment = process.env,
): Promise<Tracing | undefined> {
  if (!wantsTracing(env)) return undefined;
  const { openSdk } = await import('./open-sdk.ts');
  if (!env['OTEL_LOG_LEVEL']) diag.setLogger(oneLineAMinute(log), DiagLogLevel.ERROR);
  const sdk = openSdk(env['OTEL_SERVICE_NAME'] ? undefined : `millrace-${service}`, instance);
  sdk.start();
  return {
    async stop() {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, 3_000);
      });
      await Promise.race([sdk.shutdown().catch(() => {}), late]);
      clearTimeout(timer);
      for (const api of [trace, context, propagation, diag]) api.disable();
    },
  };
}

/** A collector that is away fails every export; one line a minute says so. */
function oneLineAMinute(log: Logger) {
  let quietUntil = 0;
  const error = (message: string) => {
    if (Date.now() < quietUntil) return;
    quietUntil = Date.now() + 60_000;
    log.warn({ reason: message.slice(0, 300) }, 'traces cannot be exported; work goes on without them');
  };
  const silent = () => {};
  return { error, warn: silent, info: silent, debug: silent, verbose: silent };
}
