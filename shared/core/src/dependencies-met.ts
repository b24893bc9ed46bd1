import type { Dependency } from './manifest.ts';

/** Whether every dependency is closed with a verdict that it accepts. `verdicts` holds null for runs still open. */
export function dependenciesMet(after: readonly Dependency[], verdicts: ReadonlyMap<string, string | null>): boolean {
  return after.every(({ job, on }) => {
    const verdict = verdicts.get(job);
    if (!verdict) return false;
    switch (on) {
      case 'success':
        return verdict === 'succeeded';
      case 'acceptable':
        return verdict === 'succeeded' || verdict === 'partial';
      case 'closed':
        return true;
      case 'failure':
        return verdict === 'failed';
      default:
        return on satisfies never;
    }
  });
}
