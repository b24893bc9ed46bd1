import { checkSchedule, JOB_NAME, type JobManifest, MillraceError, messageOf, readManifest } from '@millrace/core';

export interface ReadManifests {
  readonly jobs: readonly JobManifest[];
  /** Entries that cannot be used, by job: why. */
  readonly refused: ReadonlyMap<string, string>;
}

/** The manifests in the bucket. One that is broken costs its own job its ticks, and no other. */
export function readManifests(entries: ReadonlyMap<string, string>): ReadManifests {
  const jobs: JobManifest[] = [];
  const refused = new Map<string, string>();
  for (const [job, text] of entries) {
    try {
      const manifest = readManifest(text);
      // The name becomes a part of the subject.
      if (manifest.name !== job || !JOB_NAME.test(job))
        throw new MillraceError('MR1001', `${JSON.stringify(manifest.name)}, stored as ${JSON.stringify(job)}`);
      if (manifest.schedule) checkSchedule(job, manifest.schedule.cron, manifest.schedule.timeZone);
      jobs.push(manifest);
    } catch (error) {
      refused.set(job, messageOf(error));
    }
  }
  return { jobs, refused };
}
