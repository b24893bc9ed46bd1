import { dependenciesMet, formatInstant, type Instant, type JobManifest, runIdOf, type Trace } from '@millrace/core';
import type { Queryable } from '@millrace/postgres';
import { decideTicks } from '../domain/decide-ticks.ts';
import type { AdmittedTicks, NewRun } from '../plan-store.ts';

const NOTHING: AdmittedTicks = { opened: [], decided: { ran: 0, skipped: 0, missed: 0 }, lag: undefined };

/**
 * Decides all ticks of a job up to `until`, under the lock of the job's row. A tick message is only a prompt to look:
 * the scan of a planner that never heard of it comes to the same records.
 */
export async function admitTicks(
  tx: Queryable,
  manifest: JobManifest,
  until: Instant,
  traceOf: (runId: string) => Trace,
): Promise<AdmittedTicks> {
  const { schedule } = manifest;
  if (!schedule) return NOTHING;
  const { rows } = await tx.query<{ last: number; now: number }>(
    `select (extract(epoch from last_nominal) * 1000)::float8 as last, (extract(epoch from clock_timestamp()) * 1000)::float8 as now
     from planner.jobs where job = $1 for update`,
    [manifest.name],
  );
  const job = rows[0];
  if (!job) return NOTHING;
  const decision = decideTicks(schedule, Math.round(job.last), Math.min(until, Math.floor(job.now)), Math.floor(job.now));
  if (decision.lastNominal <= Math.round(job.last)) return NOTHING;

  const opened: string[] = [];
  const decided = { ran: 0, skipped: 0, missed: decision.missed?.ticks ?? 0 };
  if (decision.missed)
    await recordTick(tx, manifest.name, decision.missed.nominal, 'missed', decision.missed.through, decision.missed.ticks);
  const newest = decision.run.at(-1);
  for (const nominal of decision.run) {
    const busy = schedule.overlap !== 'allow' && (await hasUnfinishedRun(tx, manifest.name));
    // Ticks that catch-up "all" brings back queue up; the overlap policy speaks of the newest one.
    const waits = busy && (schedule.overlap === 'bufferOne' || nominal !== newest);
    if (busy && !waits) {
      await recordTick(tx, manifest.name, nominal, 'skipped');
      decided.skipped++;
      continue;
    }
    if (waits && schedule.overlap === 'bufferOne') await dropWaiting(tx, manifest.name);
    const runId = runIdOf(manifest.name, formatInstant(nominal));
    const run: NewRun = {
      runId,
      tick: formatInstant(nominal),
      nominal,
      cause: 'tick',
      manifest,
      params: {},
      limit: undefined,
      trace: traceOf(runId),
    };
    if (await insertRun(tx, run, waits ? 'waiting' : 'opened')) opened.push(runId);
    await recordTick(tx, manifest.name, nominal, 'ran');
    decided.ran++;
  }
  await tx.query(`update planner.jobs set last_nominal = to_timestamp($2::float8 / 1000) where job = $1`, [
    manifest.name,
    decision.lastNominal,
  ]);
  return { opened, decided, lag: newest === undefined ? undefined : Math.max(0, job.now - newest) };
}

export async function insertRun(db: Queryable, run: NewRun, state: 'opened' | 'waiting'): Promise<boolean> {
  const { rowCount } = await db.query(INSERT_RUN('0', 'null'), [...runValues(run), state]);
  return rowCount === 1;
}

/** A run that nobody has heard of; its values are those of `runValues`, then its state, then whatever the two expressions ask for. */
export const INSERT_RUN = (epoch: string, leaseUntil: string) =>
  `insert into planner.runs (run_id, job, tick, nominal, cause, params, item_limit, manifest, trace, state, opened_at, plan_epoch, lease_until)
   values ($1, $2, $3, to_timestamp($4::float8 / 1000), $5, $6, $7, $8, $9, $10, now(), ${epoch}, ${leaseUntil}) on conflict (run_id) do nothing`;

export function runValues({ runId, manifest, tick, nominal, cause, params, limit, trace }: NewRun): unknown[] {
  const [json, about, context] = [params, manifest, trace].map((value) => JSON.stringify(value));
  return [runId, manifest.name, tick, nominal, cause, json, limit ?? null, about, context];
}

/** Opens the oldest waiting run of a job once nothing of it runs any more. */
export async function promoteWaiting(tx: Queryable, job: string): Promise<void> {
  await tx.query(`select 1 from planner.jobs where job = $1 for update`, [job]);
  await tx.query(
    `update planner.runs set state = 'opened', opened_at = now()
     where run_id = (select run_id from planner.runs where job = $1 and state = 'waiting' order by nominal limit 1)
       and not exists (select 1 from planner.runs where job = $1 and state in ('opened', 'planning', 'running'))`,
    [job],
  );
}

/** Opens the runs whose dependencies are met at their tick. Causes that close at the same time take turns, so that the last one sees them all. */
export async function openDependents(tx: Queryable, tick: string, dependents: readonly NewRun[]): Promise<readonly string[]> {
  if (dependents.length === 0) return [];
  await tx.query(`select 1 from planner.jobs where job = any($1::text[]) order by job for update`, [
    dependents.map((run) => run.manifest.name),
  ]);
  const { rows } = await tx.query<{ job: string; verdict: string | null }>(
    `select job, case when state = 'closed' then verdict end as verdict from planner.runs where tick = $1 and job = any($2::text[])`,
    [tick, dependents.flatMap((run) => run.manifest.after.map((dependency) => dependency.job))],
  );
  const verdicts = new Map(rows.map((row) => [row.job, row.verdict]));
  const opened: string[] = [];
  for (const run of dependents) {
    if (dependenciesMet(run.manifest.after, verdicts) && (await insertRun(tx, run, 'opened'))) opened.push(run.runId);
  }
  return opened;
}

async function hasUnfinishedRun(tx: Queryable, job: string): Promise<boolean> {
  const { rows } = await tx.query(`select 1 from planner.runs where job = $1 and state <> 'closed' limit 1`, [job]);
  return rows.length > 0;
}

/** bufferOne keeps the latest: an older waiting tick becomes a skipped one. */
async function dropWaiting(tx: Queryable, job: string): Promise<void> {
  await tx.query(
    `with dropped as (delete from planner.runs where job = $1 and state = 'waiting' returning nominal)
     update planner.ticks set result = 'skipped' where job = $1 and nominal in (select nominal from dropped)`,
    [job],
  );
}

async function recordTick(
  tx: Queryable,
  job: string,
  nominal: Instant,
  result: 'ran' | 'skipped' | 'missed',
  through = nominal,
  ticks = 1,
): Promise<void> {
  await tx.query(
    `insert into planner.ticks (job, nominal, through, ticks, result)
     values ($1, to_timestamp($2::float8 / 1000), to_timestamp($3::float8 / 1000), $4, $5) on conflict (job, nominal) do nothing`,
    [job, nominal, through, ticks, result],
  );
}
