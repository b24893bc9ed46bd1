import { type ContextManager, ROOT_CONTEXT } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { VERSION } from '../version.ts';

/** No context is ever active: spans have the parents that they are given. */
const followsNothing: ContextManager = {
  active: () => ROOT_CONTEXT,
  with: (_context, work, self, ...args) => work.call(self as ThisParameterType<typeof work>, ...args),
  bind: (_context, target) => target,
  enable: () => followsNothing,
  disable: () => followsNothing,
};

/** The SDK, not started yet. A module of its own, loaded only where traces are wanted: it takes a while and some memory. */
export function openSdk(serviceName: string | undefined, instance: string): NodeSDK {
  return new NodeSDK({
    ...(serviceName === undefined ? {} : { serviceName }),
    resource: resourceFromAttributes({ 'service.instance.id': instance, 'service.version': VERSION, 'service.namespace': 'millrace' }),
    instrumentations: [],
    // What follows the active context slows every promise of the process before Node 24 by a tenth and more: see docs/observability.md.
    ...(Number(process.versions.node.split('.')[0]) < 24 ? { contextManager: followsNothing } : {}),
    // Metrics are pulled from /metrics, logs go to stderr.
    metricReaders: [],
    logRecordProcessors: [],
  });
}
