import type { JobManifest } from '@millrace/core';
import { connectApi } from '../connect-api.ts';
import { EXIT } from '../exit-codes.ts';
import type { Output } from '../output.ts';

export async function jobs(output: Output): Promise<number> {
  const api = await connectApi({ jobs: true });
  try {
    const { jobs: known } = await api.get<{ jobs: readonly JobManifest[] }>('/v1/jobs');
    if (output.format !== 'table') output.rows(known, []);
    else if (known.length === 0) output.note('No planner has made a job known.');
    else {
      output.rows(
        known.map((job) => ({
          job: job.name,
          schedule: job.schedule?.cron.join(' | ') ?? '',
          zone: job.schedule?.timeZone ?? '',
          after: job.after.map((one) => `${one.job} (${one.on})`).join(', '),
          description: job.description,
        })),
        ['job', 'schedule', 'zone', 'after', 'description'],
      );
    }
    return EXIT.ok;
  } finally {
    await api.close();
  }
}
