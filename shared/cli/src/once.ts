import { dependenciesMet, type JobManifest, latestDue, runIdOf } from '@millrace/core';
import type { Queryable } from '@millrace/postgres';
import type { RunJson } from './console-api.ts';

/**
 * What `millrace dev --once` waits for: the run of each schedule's latest tick, or of the first after it that ran, and every run
 * that follows from one that is closed. Ticks that were decided not to run (overlap, too late) are not waited for.
 */
export class Once {
  readonly #manifests: readonly JobManifest[];
  readonly #db: Queryable;
  /** Job → the tick whose decision is waited for. */
  readonly #undecided = new Map<string, number>();
  readonly #expected = new Set<string>();

  constructor(manifests: readonly JobManifest[], db: Queryable, now: number) {
    this.#manifests = manifests;
    this.#db = db;
    for (const { name, schedule } of manifests) {
      const due = schedule ? latestDue(schedule, 0, now) : undefined;
      if (due !== undefined) this.#undecided.set(name, due);
    }
  }

  /** The closed runs once everything is over, undefined before. */
  async finished(find: (runId: string) => Promise<RunJson | undefined>): Promise<readonly RunJson[] | undefined> {
    for (const [job, due] of this.#undecided) {
      // Not planner.ticks: what is decided about a tick that is older than the retention is soon deleted. A newer tick may have come
      // while this process started, and the older one counts as missed then.
      const { rows } = await this.#db.query<{ run_id: string | null }>(
        `select (select run_id from planner.runs r
                 where r.job = j.job and cause = 'tick' and nominal >= to_timestamp($2::float8 / 1000) and purged_at is null
                 order by nominal limit 1) as run_id
         from planner.jobs j where job = $1 and last_nominal >= to_timestamp($2::float8 / 1000)`,
        [job, due],
      );
      const decided = rows[0];
      if (!decided) continue;
      this.#undecided.delete(job);
      if (decided.run_id) this.#expected.add(decided.run_id);
    }
    if (this.#undecided.size > 0) return undefined;
    const runs = new Map<string, RunJson>();
    for (const runId of this.#expected) {
      const run = await find(runId);
      if (run?.state !== 'closed') return undefined;
      runs.set(runId, run);
    }
    const size = this.#expected.size;
    for (const run of runs.values()) {
      for (const { name, after } of this.#manifests) {
        if (
          after.some(({ job }) => job === run.job) &&
          dependenciesMet(after, new Map(after.map(({ job }) => [job, runs.get(runIdOf(job, run.tick))?.verdict ?? null])))
        )
          this.#expected.add(runIdOf(name, run.tick));
      }
    }
    return this.#expected.size > size ? undefined : [...runs.values()];
  }
}
