import { connectApi } from '../connect-api.ts';
import { type RunJson, runPath } from '../console-api.ts';
import { EXIT } from '../exit-codes.ts';
import type { Output } from '../output.ts';

interface FailuresPage {
  readonly groups: RunJson['failureGroups'];
  readonly failures: readonly Record<string, unknown>[];
  readonly next: string | null;
}

export async function failures(output: Output, runId: string, options: { group?: string; limit: number; after?: string }): Promise<number> {
  const api = await connectApi();
  try {
    const query = new URLSearchParams({ limit: String(Math.min(1_000, options.limit)) });
    if (options.group) query.set('group', options.group);
    if (options.after) query.set('after', options.after);
    const page = await api.get<FailuresPage>(`${runPath(runId)}/failures?${query}`);
    if (output.format === 'json') output.object(page, () => '');
    else if (output.format === 'jsonl') output.rows(page.failures, []);
    else if (page.groups.length === 0) output.note('Nothing failed.');
    else {
      if (!options.group) {
        output.rows(page.groups, ['count', 'class', 'title', 'fingerprint']);
        output.line('');
      }
      output.rows(page.failures, ['key', 'attempt', 'class', 'message']);
      if (page.next) output.note(`There are more: --after ${page.next}`);
    }
    return EXIT.ok;
  } finally {
    await api.close();
  }
}
