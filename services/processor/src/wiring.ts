import 'reflect-metadata';
import type { Platform, Service } from '@millrace/runtime';
import { Container, type ServiceIdentifier } from 'inversify';
import { SinkInboxes } from './adapters/sink-inboxes.ts';
import { type ProcessorConfig, processorDefaults } from './config.ts';
import { Processor } from './processor.ts';

const PLATFORM: ServiceIdentifier<Platform> = Symbol('Platform');
const CONFIG: ServiceIdentifier<ProcessorConfig> = Symbol('ProcessorConfig');

export function wireProcessor(platform: Platform, config: Partial<ProcessorConfig> = {}): Service {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(PLATFORM).toConstantValue(platform);
  container.bind(CONFIG).toConstantValue({ ...processorDefaults, ...config });
  container
    .bind(SinkInboxes)
    .toResolvedValue(({ database, time, random }: Platform) => new SinkInboxes(database, time, random), [PLATFORM]);
  container
    .bind(Processor)
    .toResolvedValue(
      ({ jobs, work, events, time, log }: Platform, inboxes: SinkInboxes, settings: ProcessorConfig) =>
        new Processor({ jobs, work, events, openInbox: (job) => inboxes.open(job), time, log, config: settings }),
      [PLATFORM, SinkInboxes, CONFIG],
    );
  return container.get(Processor);
}
