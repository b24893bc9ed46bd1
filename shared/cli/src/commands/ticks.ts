import { connectApi } from '../connect-api.ts';
import { EXIT } from '../exit-codes.ts';
import type { Output } from '../output.ts';

export async function nextTicks(output: Output, job: string, options: { n: number }): Promise<number> {
  const api = await connectApi({ jobs: true });
  try {
    const { ticks, timeZone } = await api.get<{ ticks: readonly string[]; timeZone: string }>(
      `/v1/jobs/${encodeURIComponent(job)}/ticks?n=${Math.min(1_000, options.n)}`,
    );
    const local = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'medium' });
    output.rows(
      ticks.map((tick) => ({ tick, local: local.format(new Date(tick)), zone: timeZone })),
      ['tick', 'local', 'zone'],
    );
    return EXIT.ok;
  } finally {
    await api.close();
  }
}
