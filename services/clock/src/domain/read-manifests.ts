import { checkSchedule, JOB_NAME, JobManifest, messageOf } from '@millrace/core';
import { Compile } from 'typebox/compile';

export interface ReadManifests {
  readonly jobs: readonly JobManifest[];
  /** Entries that cannot be used, by job: why. */
  readonly refused: ReadonlyMap<string, string>;
}

const check = Compile(JobManifest);

/** The manifests in the bucket. One that is broken costs its own job its ticks, and no other. */
export function readManifests(entries: ReadonlyMap<string, string>): ReadManifests {
  const jobs: JobManifest[] = [];
  const refused = new Map<string, string>();
  for (const [key, text] of entries) {
    try {
      jobs.push(readManifest(key, text));
    } catch (error) {
      refused.set(key, messageOf(error));
    }
  }
  return { jobs, refused };
}

function readManifest(key: string, text: string): JobManifest {
  const value: unknown = JSON.parse(text);
  if (!check.Check(value)) {
    const [first] = check.Errors(value);
    throw new Error(`manifest${first?.instancePath ?? ''} ${first?.message ?? 'does not match its schema'}`);
  }
  // The name becomes a part of the subject.
  if (value.name !== key || !JOB_NAME.test(key)) throw new Error(`the manifest of ${JSON.stringify(value.name)} is stored as ${JSON.stringify(key)}`);
  if (value.schedule) checkSchedule(value.name, value.schedule.cron, value.schedule.timeZone);
  return value;
}
