import { dependenciesMet, formatInstant, type JobManifest, latestDue, runIdOf } from '@millrace/core';
import type { Queryable } from '@millrace/postgres';
import type { RunJson } from './console-api.ts';

/**
 * What `millrace dev --once` waits for: the run of each schedule's latest tick, and every run that follows from one
 * that is closed. Ticks that were decided not to run (overlap, too late) are not waited for.
 */
export class Once {
  readonly #manifests: readonly JobManifest[];
  readonly #db: Queryable;
  /** Job → the instant whose decision is waited for. */
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
      // New ticks may have come while this process started: the first one counts that was not missed for a newer one.
      const { rows } = await this.#db.query<{ nominal: number; result: string }>(
        `select (extract(epoch from nominal) * 1000)::float8 as nominal, result from planner.ticks where job = $1 and through >= to_timestamp($2::float8 / 1000) order by (result = 'missed'), nominal limit 1`,
        [job, due],
      );
      const decided = rows[0];
      if (!decided) continue;
      this.#undecided.delete(job);
      if (decided.result === 'ran') this.#expected.add(runIdOf(job, formatInstant(Math.round(decided.nominal))));
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
