import 'reflect-metadata';
import type { Platform, Service } from '@millrace/runtime';
import { Container, type ServiceIdentifier } from 'inversify';
import { ChildProcesses } from './adapters/child-processes.ts';
import { EventLoopWatchdog } from './adapters/event-loop-watchdog.ts';
import { PlanPayloads } from './adapters/plan-payloads.ts';
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
  container.bind(Processor).toResolvedValue(
    (
      { jobs, jobsPath, instance, database, work, events, time, random, log }: Platform,
      inboxes: SinkInboxes,
      settings: ProcessorConfig,
    ) => {
      const purge = (retention: number) => inboxes.purge(retention);
      const payloads = new PlanPayloads(database);
      const { children: limit, childHeap: heap } = settings;
      const apart = jobsPath !== undefined && {
        isolation: new ChildProcesses({ jobsPath, instance, log, limit, heap }),
        openWatchdog: () => new EventLoopWatchdog(jobs),
      };
      return new Processor({
        jobs,
        work,
        events,
        openInbox: (job) => inboxes.open(job),
        time,
        random,
        log,
        config: settings,
        purge,
        payloads,
        ...apart,
      });
    },
    [PLATFORM, SinkInboxes, CONFIG],
  );
  return container.get(Processor);
}
