import { resourceFromAttributes } from '@opentelemetry/resources';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { VERSION } from '../version.ts';

/** The SDK, not started yet. A module of its own, loaded only where traces are wanted: it takes a while and some memory. */
export function openSdk(serviceName: string | undefined, instance: string): NodeSDK {
  return new NodeSDK({
    ...(serviceName === undefined ? {} : { serviceName }),
    resource: resourceFromAttributes({ 'service.instance.id': instance, 'service.version': VERSION, 'service.namespace': 'millrace' }),
    instrumentations: [],
    // Metrics are pulled from /metrics, logs go to stderr.
    metricReaders: [],
    logRecordProcessors: [],
  });
}
