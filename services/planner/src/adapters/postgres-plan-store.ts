import { type ChunkSettled, type Instant, type JobManifest, keysIn, type Milliseconds, type RunClosed, type Trace } from '@millrace/core';
import { type Database, jsonb, now } from '@millrace/postgres';
import { type BuiltChunk, CLAIM_BYTES } from '../domain/chunk-builder.ts';
import type {
  AdmittedTicks,
  ChunkClaim,
  ChunkId,
  DueChunk,
  NewRun,
  NextSending,
  OwedFact,
  PlanningRun,
  PlanProgress,
  PlanStore,
  RedriveRequest,
  SentChunk,
  Waiting,
} from '../plan-store.ts';
import { admitTicks, INSERT_RUN, insertRun, openDependents, promoteWaiting, runValues } from './postgres-admission.ts';
import { redriveRun } from './postgres-redrive.ts';

/** A chunk that was claimed and whose message the broker has not confirmed by then is due again: its planner may be gone. */
const CONFIRM_BY = `now() + interval '15 seconds'`;
/**
 * For what may be forgotten when the database crashes: its commit does not wait for the disk. A forgotten claim of a run fences out whoever
 * held it, and a forgotten mark of a chunk has it sent again.
 */
const UNFLUSHED = `unflushed as (select set_config('synchronous_commit', 'off', true))`;
const ms = (column: string) => `(extract(epoch from ${column}) * 1000)::float8`;

const PLANNING_RUN = `run_id, job, tick, ${ms('nominal')} as nominal, cause, params, item_limit, manifest, ${ms('opened_at')} as opened_at,
  trace, plan_epoch, cursor, next_seq, items, duplicates, plan_failures`;

/** PlanStore on PostgreSQL and PGlite. SKIP LOCKED and the plan epoch let any number of planners share it. */
export class PostgresPlanStore implements PlanStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  now(): Promise<Instant> {
    return now(this.#db);
  }

  async registerJob(manifest: JobManifest, startAfter: Instant): Promise<void> {
    await this.#db.query(
      `insert into planner.jobs (job, revision, manifest, last_nominal) values ($1, $2, $3, to_timestamp($4::float8 / 1000))
       on conflict (job) do update set revision = excluded.revision, manifest = excluded.manifest where jobs.revision <> excluded.revision`,
      [manifest.name, manifest.revision, JSON.stringify(manifest), startAfter],
    );
  }

  admitTicks(manifest: JobManifest, until: Instant, traceOf: (runId: string) => Trace): Promise<AdmittedTicks> {
    return this.#db.transaction((tx) => admitTicks(tx, manifest, until, traceOf));
  }

  admitRun(run: NewRun): Promise<boolean> {
    return insertRun(this.#db, run, 'opened');
  }

  async admitClaimed(run: NewRun, lease: Milliseconds): Promise<PlanningRun | undefined> {
    const { rows } = await this.#db.query<RunRow>(
      `${INSERT_RUN('1', `now() + $11 * interval '1 millisecond'`)} returning ${PLANNING_RUN}`,
      [...runValues(run), 'planning', lease],
    );
    return rows[0] && planningRun(rows[0]);
  }

  async claimRun(jobs: readonly string[], lease: Milliseconds): Promise<PlanningRun | undefined> {
    const { rows } = await this.#db.query<RunRow>(
      `with ${UNFLUSHED}
       update planner.runs r set state = 'planning', plan_epoch = plan_epoch + 1, lease_until = now() + $2 * interval '1 millisecond'
       from unflushed where run_id = (
         select run_id from planner.runs
         where job = any($1::text[]) and (state = 'opened' and (lease_until is null or lease_until < now()) or state = 'planning' and lease_until < now())
         order by opened_at, nominal limit 1 for update skip locked)
       returning ${PLANNING_RUN}`,
      [jobs, lease],
    );
    return rows[0] && planningRun(rows[0]);
  }

  async appendChunks(run: PlanningRun, chunks: readonly BuiltChunk[], progress: PlanProgress, window: number): Promise<number | undefined> {
    const values: unknown[] = [
      run.runId,
      run.epoch,
      progress.cursor === undefined ? null : JSON.stringify(progress.cursor),
      progress.items,
      progress.duplicates,
      run.job,
      chunks.length,
      window,
    ];
    const added = chunks.map((chunk, index) => {
      values.push(chunk.seq, chunk.size, chunk.payload);
      const at = values.length;
      return `(${index}, $${at - 2}::integer, $${at - 1}::integer, $${at}::text)`;
    });
    const { rows } = await this.#db.query<{ emitted: boolean }>(
      `with mine as (
         update planner.runs set cursor = $3::jsonb, items = $4, duplicates = $5, next_seq = next_seq + $7::integer
         where run_id = $1 and plan_epoch = $2 and state = 'planning' and next_seq = ${chunks[0] ? chunks[0].seq : 'next_seq'} returning run_id),
       -- Nothing is counted where the caller sends nothing itself.
       room as (select case when $8::integer > 0 then $8::integer - (select count(*) from planner.chunks where run_id = $1 and state = 'emitted') else 0 end as free)
       insert into planner.chunks (run_id, generation, seq, job, size, payload, state, due_at, emits)
       select mine.run_id, 0, c.seq, $6, c.size, c.payload, case when c.index < free then 'emitted' else 'ready' end,
         case when c.index < free then ${CONFIRM_BY} else now() end, (c.index < free)::integer
       from mine, room, (values ${added.join(', ')}) as c (index, seq, size, payload)
       returning state = 'emitted' as emitted`,
      values,
    );
    return rows.length === chunks.length ? rows.filter(({ emitted }) => emitted).length : undefined;
  }

  async seal(
    run: PlanningRun,
    facts: readonly OwedFact[],
    duplicates: number,
    failure?: { code: string; message: string },
  ): Promise<boolean> {
    const { rowCount } = await this.#db.query(
      `update planner.runs set state = 'running', sealed = $3, lease_until = null, plan_error = $4::jsonb, duplicates = $6, facts = $5::jsonb, owed = true, progress_at = now()
       where run_id = $1 and plan_epoch = $2 and state = 'planning'`,
      [run.runId, run.epoch, failure === undefined, failure ? jsonb(failure) : null, jsonb(facts), duplicates],
    );
    return rowCount === 1;
  }

  async renewLease(run: PlanningRun, lease: Milliseconds): Promise<boolean> {
    const { rowCount } = await this.#db.query(
      `update planner.runs set lease_until = now() + $3 * interval '1 millisecond' where run_id = $1 and plan_epoch = $2 and state = 'planning'`,
      [run.runId, run.epoch, lease],
    );
    return rowCount === 1;
  }

  discardPlan(run: PlanningRun): Promise<boolean> {
    return this.#db.transaction(async (tx) => {
      const { rowCount } = await tx.query(
        `update planner.runs set cursor = null, next_seq = 0, items = 0, duplicates = 0 where run_id = $1 and plan_epoch = $2 and state = 'planning'`,
        [run.runId, run.epoch],
      );
      if (rowCount === 1) await tx.query('delete from planner.chunks where run_id = $1', [run.runId]);
      return rowCount === 1;
    });
  }

  async postponePlanning(run: PlanningRun, pause: Milliseconds, failed = false): Promise<void> {
    await this.#db.query(
      `update planner.runs set lease_until = now() + $3 * interval '1 millisecond', plan_failures = plan_failures + $4::integer
       where run_id = $1 and plan_epoch = $2 and state = 'planning'`,
      [run.runId, run.epoch, pause, failed ? 1 : 0],
    );
  }

  async expireLeases(): Promise<void> {
    await this.#db.query(`update planner.runs set lease_until = now() - interval '1 second' where state = 'planning'`);
  }

  async storedKeys(runId: string, fromSeq: number, chunks: number): Promise<readonly { seq: number; keys: readonly string[] }[]> {
    const { rows } = await this.#db.query<{ seq: number; payload: string | null }>(
      `select seq, case when octet_length(payload) <= ${CLAIM_BYTES} then payload end as payload
       from planner.chunks where run_id = $1 and generation = 0 and seq >= $2 order by seq limit $3`,
      [runId, fromSeq, chunks],
    );
    const stored: { seq: number; keys: readonly string[] }[] = [];
    // Big ones come one after the other: many at once would not fit into memory.
    for (const { seq, payload } of rows) stored.push({ seq, keys: keysIn(payload ?? (await this.#payload(runId, seq))) });
    return stored;
  }

  async #payload(runId: string, seq: number): Promise<string> {
    const { rows } = await this.#db.query<{ payload: string }>(
      'select payload from planner.chunks where run_id = $1 and generation = 0 and seq = $2',
      [runId, seq],
    );
    return rows[0]?.payload ?? '[]';
  }

  async claimChunks({ jobs, window, limit, kind, throttled }: ChunkClaim): Promise<readonly DueChunk[]> {
    const due = `d.run_id = r.run_id and d.state = 'ready' and d.due_at <= now() and d.attempt ${kind === 'first' ? '= 1' : '> 1'}`;
    const unhindered =
      kind === 'first'
        ? ''
        : `and (r.job <> all($4::text[]) or not exists (
             select 1 from planner.chunks f where f.run_id = r.run_id and f.state = 'ready' and f.attempt = 1 and f.due_at <= now()))`;
    const { rows } = await this.#db.query<ChunkRow>(
      `with due as (
         select c.run_id, c.generation, c.seq
         from (
           -- Everyone who has something to send gets an equal share; where there are more runs than chunks to claim, the lot decides.
           select run_id, least(free, ceil($3::float8 / count(*) over ())::bigint) as share
           from (
             select r.run_id, $2::bigint - (select count(*) from planner.chunks e where e.run_id = r.run_id and e.state = 'emitted') as free
             from planner.runs r
             -- What is spooled goes out as a whole, once its plan is sealed.
             where (r.state = 'running' or r.state = 'planning' and r.manifest ->> 'spool' is distinct from 'true') and r.job = any($1::text[])
               and exists (select 1 from planner.chunks d where ${due}) ${unhindered}) w
           where free > 0 order by random()) r
         cross join lateral (
           select d.run_id, d.generation, d.seq from planner.chunks d where ${due}
           order by ${kind === 'first' ? 'd.generation, d.seq' : 'd.due_at'} limit r.share for update skip locked) c
         limit $3)
       update planner.chunks c set state = 'emitted', emitted_at = null, due_at = ${CONFIRM_BY}, emits = emits + 1
       from due, planner.runs r
       where c.run_id = due.run_id and c.generation = due.generation and c.seq = due.seq and r.run_id = due.run_id
       returning c.run_id, c.generation, c.seq, c.job, c.size, c.attempt, c.emits, c.outcomes, r.tick, ${ms('r.nominal')} as nominal, r.params, r.trace, ${ms('r.opened_at')} as opened_at,
         (select case when octet_length(p.payload) <= ${CLAIM_BYTES} then p.payload end
          from (select coalesce(c.payload, (select o.payload from planner.chunks o where o.run_id = c.run_id and o.generation = 0 and o.seq = c.seq)) as payload) p) as payload`,
      kind === 'first' ? [jobs, window, limit] : [jobs, window, limit, throttled],
    );
    return rows.map((row) => ({
      runId: row.run_id,
      generation: row.generation,
      seq: row.seq,
      job: row.job,
      tick: row.tick,
      params: row.params,
      size: row.size,
      attempt: row.attempt,
      emits: row.emits,
      nominal: row.nominal === null ? null : Math.round(row.nominal),
      openedAt: Math.floor(row.opened_at),
      outcomes: row.outcomes,
      payload: row.payload,
      trace: row.trace,
    }));
  }

  async releaseChunks(chunks: readonly ChunkId[]): Promise<void> {
    await this.#db.query(
      `update planner.chunks c set state = 'ready', due_at = now(), emits = greatest(emits - 1, 0)
       from unnest($1::text[], $2::integer[], $3::integer[]) as u (run_id, generation, seq)
       where c.run_id = u.run_id and c.generation = u.generation and c.seq = u.seq and c.state = 'emitted'`,
      [chunks.map((c) => c.runId), chunks.map((c) => c.generation), chunks.map((c) => c.seq)],
    );
  }

  async confirmChunks(chunks: readonly SentChunk[]): Promise<void> {
    await this.#db.query(
      `with ${UNFLUSHED}
       update planner.chunks c set emitted_at = now()
       from unflushed, unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::integer[]) as u (run_id, generation, seq, attempt, emits)
       where c.run_id = u.run_id and c.generation = u.generation and c.seq = u.seq and c.attempt = u.attempt and c.emits = u.emits
         and c.state = 'emitted' and c.emitted_at is null`,
      [
        chunks.map((c) => c.runId),
        chunks.map((c) => c.generation),
        chunks.map((c) => c.seq),
        chunks.map((c) => c.attempt),
        chunks.map((c) => c.emits),
      ],
    );
  }

  async releaseUnconfirmed(jobs: readonly string[]): Promise<number> {
    const { rowCount } = await this.#db.query(
      `update planner.chunks c set state = 'ready', due_at = now(), emits = greatest(c.emits - 1, 0)
       from planner.runs r
       where r.job = any($1::text[]) and r.state in ('planning', 'running') and c.run_id = r.run_id
         and c.state = 'emitted' and c.emitted_at is null and c.due_at <= now()`,
      [jobs],
    );
    return rowCount;
  }

  async waiting(jobs: readonly string[]): Promise<Waiting> {
    const isDue = (attempt: string) =>
      `exists (select 1 from planner.chunks d where d.run_id = r.run_id and d.state = 'ready' and d.attempt ${attempt} and d.due_at <= now())`;
    const { rows } = await this.#db.query<{ wait: number | null; held: boolean | null }>(
      `select ${ms('min(c.due_at) - now()')} as wait, bool_or(${isDue('= 1')} or ${isDue('> 1')}) as held from planner.runs r left join lateral (
         select due_at from planner.chunks where run_id = r.run_id and state = 'ready' and attempt > 1 and due_at > now() order by due_at limit 1) c on true
       where r.state in ('planning', 'running') and r.job = any($1::text[])`,
      [jobs],
    );
    return { due: rows[0]?.wait ?? undefined, held: rows[0]?.held ?? false };
  }

  async settleChunks(settled: readonly (ChunkSettled & { next: NextSending | undefined })[]): Promise<void> {
    if (settled.length === 0) return;
    await this.#db.query(
      `with facts as (
         select * from unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::text[], $7::float8[], $8::integer[])
           as u (run_id, generation, seq, attempt, outcomes, failures, next_in, next_attempt)),
       moved as (
         update planner.chunks c set
           state = case when f.next_in is null then 'settled' else 'ready' end,
           attempt = coalesce(f.next_attempt, f.attempt),
           emits = case when f.next_in is null then c.emits else 0 end,
           due_at = now() + coalesce(f.next_in, 0) * interval '1 millisecond',
           outcomes = f.outcomes, failures = f.failures::jsonb
         from (select distinct on (run_id, generation, seq) * from facts order by run_id, generation, seq, attempt desc, next_attempt desc nulls first) f
         where c.run_id = f.run_id and c.generation = f.generation and c.seq = f.seq and c.state <> 'settled' and f.attempt >= c.attempt
         returning c.run_id)
       update planner.runs set progress_at = now() where run_id in (select run_id from moved)`,
      [
        settled.map((s) => s.runId),
        settled.map((s) => s.generation),
        settled.map((s) => s.seq),
        settled.map((s) => s.attempt),
        settled.map((s) => s.outcomes),
        settled.map((s) =>
          s.failures.length === 0 ? null : JSON.stringify(Object.fromEntries(s.failures.map((f) => [f.position, f.fingerprint]))),
        ),
        settled.map((s) => s.next?.in ?? null),
        settled.map((s) => s.next?.attempt ?? null),
      ],
    );
  }

  closeRun(closed: RunClosed, dependents: readonly NewRun[]): Promise<readonly string[] | 'behind'> {
    return this.#db.transaction(async (tx) => {
      const { rows } = await tx.query<{ behind: boolean }>(
        `with run as (select run_id, generation from planner.runs where run_id = $1 and generation = $2 for update),
         behind as (select exists (select 1 from planner.chunks c join run using (run_id, generation) where c.state <> 'settled') as behind),
         closed as (
           update planner.runs r set state = 'closed', verdict = $3, closed_at = to_timestamp($4::float8 / 1000)
           from run, behind where r.run_id = run.run_id and not behind.behind)
         select behind from behind`,
        [closed.runId, closed.generation, closed.verdict, closed.closedAt],
      );
      if (rows[0]?.behind) return 'behind';
      await promoteWaiting(tx, closed.job);
      return openDependents(tx, closed.tick, dependents);
    });
  }

  redrive(request: RedriveRequest) {
    return this.#db.transaction((tx) => redriveRun(tx, request));
  }

  async purge(retention: Milliseconds, limit: number): Promise<'more' | 'done'> {
    const old = `now() - $1 * interval '1 millisecond'`;
    const steps = [
      await this.#db.query(
        `update planner.runs set purged_at = now() where run_id in (
           select run_id from planner.runs where state = 'closed' and closed_at < ${old} and purged_at is null order by closed_at limit $2 for update skip locked)`,
        [retention, limit],
      ),
      await this.#db.query(
        `delete from planner.chunks where ctid = any(array(
           select c.ctid from planner.runs r join planner.chunks c using (run_id) where r.purged_at is not null and r.state = 'closed' limit $1))`,
        [limit],
      ),
      await this.#db.query(
        `delete from planner.runs r where r.run_id in (
           select run_id from planner.runs where state = 'closed' and closed_at < ${old} and purged_at < now() - interval '1 day' limit $2)
           and not exists (select 1 from planner.chunks c where c.run_id = r.run_id)`,
        [retention, limit],
      ),
      await this.#db.query(
        `delete from planner.ticks where ctid = any(array(select ctid from planner.ticks where through < ${old} limit $2))`,
        [retention, limit],
      ),
    ];
    return steps.some(({ rowCount }) => rowCount > 0) ? 'more' : 'done';
  }

  async resetEmitted(job: string): Promise<number> {
    const { rowCount } = await this.#db.query(
      `update planner.chunks set state = 'ready', due_at = now(), emits = 1 where job = $1 and state = 'emitted'`,
      [job],
    );
    return rowCount;
  }

  async resetStalled(job: string, idle: Milliseconds, limit: number, most: number): Promise<{ reset: number; stalled: number }> {
    const { rows } = await this.#db.query<{ reset: string; stalled: string }>(
      `with idle as (
         select c.run_id, c.generation, c.seq, c.emits, c.emitted_at from planner.chunks c join planner.runs r using (run_id)
         where c.job = $1 and c.state = 'emitted' and c.emitted_at is not null and r.state <> 'closed'
           and greatest(c.emitted_at, r.progress_at) < now() - $2 * interval '1 millisecond'),
       taken as (select * from idle where emits <= $3 order by emitted_at limit $4),
       reset as (
         update planner.chunks c set state = 'ready', due_at = now() from taken
         where c.run_id = taken.run_id and c.generation = taken.generation and c.seq = taken.seq and c.state = 'emitted' returning 1)
       select (select count(*) from reset) as reset, (select count(*) from idle where emits > $3) as stalled`,
      [job, idle, limit, most],
    );
    return { reset: Number(rows[0]?.reset ?? 0), stalled: Number(rows[0]?.stalled ?? 0) };
  }

  async tellAgain(jobs: readonly string[], idle: Milliseconds): Promise<readonly string[]> {
    const { rows } = await this.#db.query<{ run_id: string }>(
      `with silent as (
         update planner.runs r set owed = true, progress_at = now(), told = case when $2 = 0 then told else told + 1 end
         where (r.state = 'running' or $2 = 0 and r.state = 'planning') and r.job = any($1::text[])
           and r.progress_at <= now() - $2 * 2 ^ least(r.told, 7) * interval '1 millisecond'
           and ($2 = 0 or not exists (select 1 from planner.chunks c where c.run_id = r.run_id and c.state <> 'settled'))
         returning r.run_id),
       again as (
         update planner.chunks c set state = 'ready', due_at = now(), emits = 0 from silent where c.run_id = silent.run_id and c.state = 'settled')
       select run_id from silent`,
      [jobs, idle],
    );
    return rows.map((row) => row.run_id);
  }

  async owedFacts(limit: number): Promise<readonly { runId: string; facts: readonly OwedFact[]; trace: Trace }[]> {
    const { rows } = await this.#db.query<{ run_id: string; facts: OwedFact[]; trace: Trace }>(
      `select run_id, facts, trace from planner.runs where owed limit $1`,
      [limit],
    );
    return rows.map((row) => ({ runId: row.run_id, facts: row.facts, trace: row.trace }));
  }

  async clearOwed(runId: string, told: number): Promise<void> {
    await this.#db.query(`update planner.runs set owed = false where run_id = $1 and jsonb_array_length(facts) = $2`, [runId, told]);
  }

  async oldestOpen(): Promise<ReadonlyMap<string, number>> {
    const { rows } = await this.#db.query<{ job: string; age: number }>(
      `select job, extract(epoch from now() - min(opened_at))::float8 as age from planner.runs where state <> 'closed' group by job`,
    );
    return new Map(rows.map((row) => [row.job, Math.max(0, row.age)]));
  }
}

function planningRun(row: RunRow): PlanningRun {
  return {
    runId: row.run_id,
    job: row.job,
    tick: row.tick,
    nominal: row.nominal === null ? null : Math.round(row.nominal),
    cause: row.cause,
    params: row.params,
    limit: row.item_limit === null ? undefined : Number(row.item_limit),
    manifest: row.manifest,
    openedAt: Math.floor(row.opened_at),
    trace: row.trace,
    epoch: row.plan_epoch,
    cursor: row.cursor ?? undefined,
    nextSeq: row.next_seq,
    items: Number(row.items),
    duplicates: Number(row.duplicates),
    failures: row.plan_failures,
  };
}

interface RunRow {
  run_id: string;
  job: string;
  tick: string;
  nominal: number | null;
  cause: 'tick' | 'trigger' | 'after';
  params: Record<string, unknown>;
  item_limit: string | null;
  manifest: JobManifest;
  opened_at: number;
  trace: Trace;
  plan_epoch: number;
  cursor: unknown;
  next_seq: number;
  items: string;
  duplicates: string;
  plan_failures: number;
}

interface ChunkRow {
  run_id: string;
  generation: number;
  seq: number;
  job: string;
  tick: string;
  nominal: number | null;
  params: Record<string, unknown>;
  opened_at: number;
  size: number;
  attempt: number;
  emits: number;
  outcomes: string | null;
  payload: string | null;
  trace: Trace;
}
