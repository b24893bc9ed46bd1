import {
  type Counts,
  type Milliseconds,
  noCounts,
  OUTCOMES,
  type RunClosed,
  type RunManifest,
  type RunVerdict,
  splitRunId,
  sumCounts,
  type Trace,
  verdictOf,
} from '@millrace/core';
import { type Database, jsonb, plainText, type Queryable } from '@millrace/postgres';
import { addCounts, type ChunkRow, chunkKey, chunksOf, foldChunks } from '../domain/fold-chunks.ts';
import type { FactBatch, Fold, JobStanding, LedgerStore } from '../ledger-store.ts';

const at = (param: string) => `to_timestamp(${param}::float8 / 1000)`;
const ms = (column: string) => `(extract(epoch from ${column}) * 1000)::float8`;
const DEFAULT_MANIFEST: RunManifest = { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' };

/** LedgerStore on PostgreSQL and PGlite. All changes of a run happen under the lock of its row. */
export class PostgresLedgerStore implements LedgerStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async fold(batch: FactBatch): Promise<Fold> {
    const runs = new Map([...batch.opened, ...batch.planned, ...batch.planFailed, ...batch.settled].map((fact) => [fact.runId, fact.job]));
    if (runs.size === 0) return { gained: new Map(), awaited: 0 };
    return this.#db.transaction(async (tx) => {
      await lockRuns(tx, runs);
      for (const fact of batch.opened) await openRun(tx, fact);
      const gained = await foldSettled(tx, batch.settled);
      for (const fact of batch.planned) await planRun(tx, { ...fact, at: fact.plannedAt, failure: undefined });
      for (const fact of batch.planFailed) {
        await planRun(tx, { ...fact, at: fact.failedAt, replaced: noCounts(), failure: { code: fact.code, message: fact.message } });
      }
      let awaited = Number.POSITIVE_INFINITY;
      for (const runId of runs.keys()) awaited = Math.min(awaited, await closeIfComplete(tx, runId));
      return { gained, awaited };
    });
  }

  async outbox(limit: number): Promise<readonly { id: string; data: RunClosed; trace: Trace }[]> {
    const { rows } = await this.#db.query<{ id: string; data: RunClosed; trace: Trace }>(
      'select id, data, trace from audit.outbox order by at limit $1',
      [limit],
    );
    return rows;
  }

  async clearOutbox(ids: readonly string[]): Promise<void> {
    await this.#db.query('delete from audit.outbox where id = any($1::text[])', [ids]);
  }

  async standing(): Promise<readonly JobStanding[]> {
    const { rows } = await this.#db.query<{ job: string; unaccounted: number; last_success: number | null }>(
      `select job, coalesce(sum(planned - (${OUTCOMES.join(' + ')})), 0)::float8 as unaccounted,
         ${ms("max(closed_at) filter (where verdict = 'succeeded')")} as last_success
       from audit.runs group by job`,
    );
    return rows.map((row) => ({ job: row.job, unaccounted: row.unaccounted, lastSuccess: row.last_success }));
  }

  async purge(retention: Milliseconds, limit: number): Promise<'more' | 'done'> {
    const old = `closed_at < now() - $1 * interval '1 millisecond'`;
    const marked = await this.#db.query(
      `update audit.runs set purged_at = now() where run_id in (
         select run_id from audit.runs where state = 'closed' and ${old} and purged_at is null order by closed_at limit $2 for update skip locked)`,
      [retention, limit],
    );
    let deleted = marked.rowCount;
    for (const table of ['audit.chunks', 'audit.failures', 'audit.generations']) {
      // The oldest first; a run that has nothing left stays marked, and is passed over by its index entry.
      const { rowCount } = await this.#db.query(
        `delete from ${table} where ctid = any(array(
           select t.ctid from audit.runs r join ${table} t using (run_id) where r.purged_at is not null and r.state = 'closed' limit $1))`,
        [limit],
      );
      deleted += rowCount;
    }
    const gone = await this.#db.query(
      `delete from audit.runs r where r.run_id in (
         select run_id from audit.runs where state = 'closed' and ${old} and purged_at < now() - interval '1 day' limit $2)
         and not exists (select 1 from audit.chunks c where c.run_id = r.run_id)`,
      [retention, limit],
    );
    return deleted + gone.rowCount > 0 ? 'more' : 'done';
  }
}

/** A fact may come before its run.opened: the row is there from the first fact on, and completed later. */
async function lockRuns(tx: Queryable, runs: ReadonlyMap<string, string>): Promise<void> {
  const ids = [...runs.keys()].sort();
  const lock = () => tx.query('select 1 from audit.runs where run_id = any($1::text[]) order by run_id for update', [ids]);
  if ((await lock()).rows.length === ids.length) return;
  await tx.query(
    `insert into audit.runs (run_id, job, tick, cause, params, manifest, state, opened_at, updated_at)
     select u.run_id, u.job, u.tick, 'tick', '{}', $4::jsonb, 'planning', now(), now()
     from unnest($1::text[], $2::text[], $3::text[]) as u (run_id, job, tick) order by u.run_id on conflict do nothing`,
    [ids, ids.map((id) => runs.get(id)), ids.map((id) => splitRunId(id)?.tick ?? id), JSON.stringify(DEFAULT_MANIFEST)],
  );
  await lock();
}

async function openRun(tx: Queryable, fact: FactBatch['opened'][number]): Promise<void> {
  await tx.query(
    `insert into audit.generations (run_id, generation, opened_at) values ($1, $2, ${at('$3')})
     on conflict (run_id, generation) do update set opened_at = excluded.opened_at`,
    [fact.runId, fact.generation, fact.openedAt],
  );
  if (fact.generation > 0) {
    await tx.query('update audit.runs set trace = $2 where run_id = $1', [fact.runId, JSON.stringify(fact.trace)]);
    return;
  }
  await tx.query(
    `update audit.runs set nominal = ${at('$2')}, cause = $3, params = $4, manifest = $5, opened_at = ${at('$6')}, trace = $7, updated_at = now() where run_id = $1`,
    [
      fact.runId,
      fact.nominal,
      fact.cause,
      JSON.stringify(fact.params),
      JSON.stringify(fact.manifest),
      fact.openedAt,
      JSON.stringify(fact.trace),
    ],
  );
}

interface Plan {
  readonly runId: string;
  readonly generation: number;
  readonly chunks: number;
  readonly items: number;
  readonly duplicates: number;
  readonly at: number;
  readonly replaced: Counts;
  readonly failure: { code: string; message: string } | undefined;
}

/** The seal of a generation. Counted once: a second one finds `planned_at` set. */
async function planRun(tx: Queryable, plan: Plan): Promise<void> {
  const { rowCount } = await tx.query(
    `insert into audit.generations as g (run_id, generation, planned_at, chunks, items, duplicates, replaced, plan_failed)
     values ($1, $2, ${at('$3')}, $4, $5, $6, $7, $8)
     on conflict (run_id, generation) do update set planned_at = excluded.planned_at, chunks = excluded.chunks, items = excluded.items,
       duplicates = excluded.duplicates, replaced = excluded.replaced, plan_failed = excluded.plan_failed
     where g.planned_at is null`,
    [
      plan.runId,
      plan.generation,
      plan.at,
      plan.chunks,
      plan.items,
      plan.duplicates,
      JSON.stringify(plan.replaced),
      plan.failure !== undefined,
    ],
  );
  if (rowCount === 0) return repeatClosed(tx, plan.runId, plan.generation);
  const counts = noCounts();
  addCounts(counts, plan.replaced, -1);
  counts.duplicate += plan.duplicates;
  await moveCounts(tx, plan.runId, counts);
  await tx.query(
    `update audit.runs set state = 'running', generation = greatest(generation, $2), verdict = null, closed_at = null,
       planned = case when $2 = 0 then $3::bigint else planned end, planned_at = case when $2 = 0 then ${at('$4')} else planned_at end,
       plan_error = coalesce($5::jsonb, plan_error)
     where run_id = $1`,
    [plan.runId, plan.generation, plan.items + plan.duplicates, plan.at, plan.failure ? jsonb(plan.failure) : null],
  );
}

async function foldSettled(tx: Queryable, facts: FactBatch['settled']): Promise<ReadonlyMap<string, Counts>> {
  const byJob = new Map<string, Counts>();
  if (facts.length === 0) return byJob;
  const { rows } = await tx.query<{ run_id: string; generation: number; seq: number; size: number; attempt: number; outcomes: string }>(
    `select c.run_id, c.generation, c.seq, c.size, c.attempt, c.outcomes
     from unnest($1::text[], $2::integer[], $3::integer[]) as u (run_id, generation, seq) join audit.chunks c using (run_id, generation, seq)`,
    [facts.map((f) => f.runId), facts.map((f) => f.generation), facts.map((f) => f.seq)],
  );
  const known = new Map(
    rows.map((row): [string, ChunkRow] => {
      const chunk = {
        runId: row.run_id,
        generation: row.generation,
        seq: row.seq,
        size: row.size,
        attempt: row.attempt,
        outcomes: row.outcomes,
      };
      return [chunkKey(chunk), chunk];
    }),
  );
  const { chunks, gained, failures, recovered } = foldChunks(known, facts);
  if (chunks.length === 0) return byJob;
  await tx.query(
    `insert into audit.chunks (run_id, generation, seq, size, attempt, outcomes, skips, queued_ms, process_ms, commit_ms, settled_at)
     select run_id, generation, seq, size, attempt, outcomes, skips::jsonb, queued, process, commit, ${at('settled_at')}
     from unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::text[], $7::text[], $8::integer[], $9::integer[], $10::integer[], $11::float8[])
       as u (run_id, generation, seq, size, attempt, outcomes, skips, queued, process, commit, settled_at)
     on conflict (run_id, generation, seq) do update set attempt = excluded.attempt, outcomes = excluded.outcomes, skips = excluded.skips,
       queued_ms = excluded.queued_ms, process_ms = excluded.process_ms, commit_ms = excluded.commit_ms, settled_at = excluded.settled_at`,
    [
      chunks.map((c) => c.runId),
      chunks.map((c) => c.generation),
      chunks.map((c) => c.seq),
      chunks.map((c) => c.size),
      chunks.map((c) => c.attempt),
      chunks.map((c) => c.outcomes),
      chunks.map((c) => jsonb(c.latest.skips)),
      chunks.map((c) => Math.round(c.latest.timing.queued)),
      chunks.map((c) => Math.round(c.latest.timing.process)),
      chunks.map((c) => Math.round(c.latest.timing.commit)),
      chunks.map((c) => c.latest.settledAt),
    ],
  );
  if (failures.length > 0) {
    await tx.query(
      `insert into audit.failures as f (run_id, seq, position, generation, attempt, key, fingerprint, class, title, message, final, at)
       select run_id, seq, position, generation, attempt, key, fingerprint, class, title, message, final, ${at('at')}
       from unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::boolean[], $12::float8[])
         as u (run_id, seq, position, generation, attempt, key, fingerprint, class, title, message, final, at)
       on conflict (run_id, seq, position) do update set generation = excluded.generation, attempt = excluded.attempt, key = excluded.key,
         fingerprint = excluded.fingerprint, class = excluded.class, title = excluded.title, message = excluded.message, final = excluded.final, at = excluded.at
       where (excluded.generation, excluded.attempt) >= (f.generation, f.attempt)`,
      [
        failures.map((f) => f.runId),
        failures.map((f) => f.seq),
        failures.map((f) => f.position),
        failures.map((f) => f.generation),
        failures.map((f) => f.attempt),
        failures.map((f) => plainText(f.key)),
        failures.map((f) => plainText(f.fingerprint)),
        failures.map((f) => f.class),
        failures.map((f) => plainText(f.title)),
        failures.map((f) => plainText(f.message)),
        failures.map((f) => f.final),
        failures.map((f) => f.at),
      ],
    );
  }
  if (recovered.length > 0) {
    await tx.query(
      `delete from audit.failures f using unnest($1::text[], $2::integer[], $3::integer[]) as u (run_id, seq, position)
       where f.run_id = u.run_id and f.seq = u.seq and f.position = u.position`,
      [recovered.map((r) => r.runId), recovered.map((r) => r.seq), recovered.map((r) => r.position)],
    );
  }
  for (const { runId, generation, counts } of gained) {
    await tx.query(
      `insert into audit.generations as g (run_id, generation, final) values ($1, $2, $3::jsonb)
       on conflict (run_id, generation) do update set final =
         (select jsonb_object_agg(key, coalesce((g.final ->> key)::bigint, 0) + value::bigint) from jsonb_each_text(excluded.final))`,
      [runId, generation, JSON.stringify(counts)],
    );
    await moveCounts(tx, runId, counts);
    const job = splitRunId(runId)?.job ?? runId;
    const sum = byJob.get(job) ?? noCounts();
    addCounts(sum, counts, 1);
    byJob.set(job, sum);
  }
  return byJob;
}

async function moveCounts(tx: Queryable, runId: string, counts: Counts): Promise<void> {
  await tx.query(
    `update audit.runs set ${OUTCOMES.map((outcome, i) => `${outcome} = ${outcome} + $${i + 2}`).join(', ')}, updated_at = now() where run_id = $1`,
    [runId, ...OUTCOMES.map((outcome) => counts[outcome])],
  );
}

/**
 * Whichever fact comes last closes the run: its plan is sealed and every item of its newest generation is final. Returns the chunks that a
 * sealed run still waits for, 0 when it has closed.
 */
async function closeIfComplete(tx: Queryable, runId: string): Promise<number> {
  const row = await closeRow(tx, runId, `r.state <> 'closed' and g.planned_at is not null and g.closed_at is null`);
  if (!row) return Number.POSITIVE_INFINITY;
  const missing = Number(row.items) - sumCounts({ ...noCounts(), ...row.final });
  if (missing !== 0) return chunksOf(missing, Number(row.items), row.chunks);
  const counts = countsOf(row);
  const empty = sumCounts(counts) === 0 && row.manifest.onEmpty === 'fail';
  const verdict = empty ? 'failed' : verdictOf(counts, row.manifest.tolerate, row.plan_failed);
  await tx.query(`update audit.runs set state = 'closed', verdict = $2, closed_at = ${at('$3')}, updated_at = now() where run_id = $1`, [
    runId,
    verdict,
    row.now,
  ]);
  await tx.query(`update audit.generations set closed_at = ${at('$3')}, verdict = $4, counts = $5 where run_id = $1 and generation = $2`, [
    runId,
    row.generation,
    row.now,
    verdict,
    JSON.stringify(counts),
  ]);
  await oweClosed(tx, runId, row, verdict, Math.floor(row.now));
  return 0;
}

/** A plan that is told again of a generation that is closed: its planner has missed the close. */
async function repeatClosed(tx: Queryable, runId: string, generation: number): Promise<void> {
  const row = await closeRow(tx, runId, `r.state = 'closed' and g.closed_at is not null`);
  if (row?.verdict && row.generation === generation) await oweClosed(tx, runId, row, row.verdict, Math.floor(row.closed_at ?? row.now));
}

async function closeRow(tx: Queryable, runId: string, condition: string): Promise<CloseRow | undefined> {
  const { rows } = await tx.query<CloseRow>(
    `select r.job, r.tick, ${ms('r.nominal')} as nominal, r.manifest, r.planned, r.plan_error is not null as plan_failed, ${ms('r.opened_at')} as opened_at, r.verdict,
       ${ms('r.closed_at')} as closed_at, ${ms('clock_timestamp()')} as now, g.generation, g.chunks, g.items, g.final, ${OUTCOMES.map((outcome) => `r.${outcome}`).join(', ')}
     from audit.runs r join audit.generations g on g.run_id = r.run_id and g.generation = r.generation where r.run_id = $1 and ${condition}`,
    [runId],
  );
  return rows[0];
}

function countsOf(row: CloseRow): Counts {
  const counts = noCounts();
  for (const outcome of OUTCOMES) counts[outcome] = Number(row[outcome]);
  return counts;
}

async function oweClosed(tx: Queryable, runId: string, row: CloseRow, verdict: RunVerdict, closedAt: number): Promise<void> {
  const closed: RunClosed = {
    runId,
    job: row.job,
    generation: row.generation,
    tick: row.tick,
    nominal: row.nominal === null ? null : Math.round(row.nominal),
    verdict,
    planned: Number(row.planned),
    counts: countsOf(row),
    openedAt: Math.floor(row.opened_at),
    closedAt,
  };
  await tx.query(
    'insert into audit.outbox (id, data, trace, at) select $1, $2, trace, now() from audit.runs where run_id = $3 on conflict do nothing',
    [`${runId}/${row.generation}/run.closed`, JSON.stringify(closed), runId],
  );
}

interface CloseRow extends Record<(typeof OUTCOMES)[number], string> {
  job: string;
  tick: string;
  nominal: number | null;
  manifest: RunManifest;
  planned: string;
  plan_failed: boolean;
  opened_at: number;
  closed_at: number | null;
  now: number;
  verdict: RunVerdict | null;
  generation: number;
  chunks: number;
  items: string;
  final: Partial<Counts>;
}
