import type { AuditConfig } from '@millrace/audit';
import type { ClockConfig } from '@millrace/clock';
import type { PlannerConfig } from '@millrace/planner';
import type { ProcessorConfig } from '@millrace/processor';
import type { Platform, Service } from '@millrace/runtime';

/** What environment and configuration file say about each service. */
export interface ServiceSettings {
  readonly audit: AuditConfig;
  readonly planner: PlannerConfig;
  readonly processor: ProcessorConfig;
  readonly clock: ClockConfig;
}

export interface ComposeOptions {
  /** False: ticks are nobody's business here, runs start by triggers only. */
  readonly scheduled: boolean;
  /** What a schedule that is new here starts with; see the planner's option. */
  readonly firstTick: PlannerConfig['firstTick'];
  /** No other process works on this database. */
  readonly alone: boolean;
  readonly settings: ServiceSettings;
}

/** Audit, planner, processor and clock of one process, in the order of their start. The consoles are their callers'. */
export async function compose(platform: Platform, { scheduled, firstTick, alone, settings }: ComposeOptions): Promise<readonly Service[]> {
  const [{ wireAudit }, { wirePlanner }, { wireProcessor }, { wireClock }] = await Promise.all([
    import('@millrace/audit'),
    import('@millrace/planner'),
    import('@millrace/processor'),
    import('@millrace/clock'),
  ]);
  const given = scheduled ? platform : { ...platform, jobs: unscheduled(platform.jobs) };
  return [
    wireAudit(given, settings.audit),
    wirePlanner(given, { ...settings.planner, firstTick, alone }),
    wireProcessor(given, settings.processor),
    ...(scheduled ? [wireClock(given, settings.clock)] : []),
  ];
}

function unscheduled(jobs: Platform['jobs']): Platform['jobs'] {
  return new Map(
    [...jobs].map(([name, job]) => [
      name,
      Object.create(job, { manifest: { value: { ...job.manifest, schedule: null }, enumerable: true } }),
    ]),
  );
}

export async function startAll(services: readonly Service[]): Promise<void> {
  for (const service of services) await service.start();
}

/** Last first. */
export async function stopAll(services: readonly Service[], graceMs?: number): Promise<void> {
  for (const service of [...services].reverse()) await service.stop(graceMs);
}
