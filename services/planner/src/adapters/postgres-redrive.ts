import type { Queryable } from '@millrace/postgres';
import { type ChunkLayer, selectRedrive } from '../domain/select-redrive.ts';
import type { OwedFact, RedriveRequest } from '../plan-store.ts';

/**
 * Opens the next generation of a closed run over its failing items: one new chunk row per touched chunk, in which the
 * items that stay as they are have the state '-'. Applied items are never touched. Cost grows with failing chunks.
 */
export async function redriveRun(
  tx: Queryable,
  request: RedriveRequest,
): Promise<'opened' | 'known' | 'open' | 'unknown' | 'empty' | 'old'> {
  const { rows: runs } = await tx.query<{
    job: string;
    tick: string;
    state: string;
    generation: number;
    nominal: number | null;
    manifest: { run: unknown };
    params: unknown;
    age: number;
    purged: boolean;
  }>(
    `select job, tick, state, generation, (extract(epoch from nominal) * 1000)::float8 as nominal, manifest, params,
       (extract(epoch from now() - opened_at) * 1000)::float8 as age, purged_at is not null as purged from planner.runs where run_id = $1 for update`,
    [request.runId],
  );
  const run = runs[0];
  if (!run) return 'unknown';
  if (run.generation >= request.generation) return 'known';
  if (run.state !== 'closed') return 'open';
  if (run.purged || run.age > request.maxAge) return 'old';

  const { rows } = await tx.query<ChunkLayer & { generation: number }>(
    `select c.generation, c.seq, c.size, c.outcomes, c.failures, case when $2 and c.generation = 0 then c.payload end as payload
     from planner.chunks c
     where c.run_id = $1 and c.outcomes is not null
       and c.seq in (select f.seq from planner.chunks f where f.run_id = $1 and f.outcomes ~ '[xrce]')
     order by c.seq, c.generation`,
    [request.runId, request.keys !== undefined],
  );

  const generation = run.generation + 1;
  const { chunks, items, replaced } = selectRedrive(rows, request);
  if (items === 0) return 'empty';

  await tx.query(
    `insert into planner.chunks (run_id, generation, seq, job, size, outcomes)
     select $1, $2, u.seq, $3, u.size, u.outcomes from unnest($4::integer[], $5::integer[], $6::text[]) as u (seq, size, outcomes)`,
    [request.runId, generation, run.job, chunks.map((c) => c.seq), chunks.map((c) => c.size), chunks.map((c) => c.outcomes)],
  );
  const { rows: clock } = await tx.query<{ now: number }>(`select (extract(epoch from now()) * 1000)::float8 as now`);
  const at = Math.floor(clock[0]?.now ?? 0);
  const about = { runId: request.runId, job: run.job, generation };
  const facts: OwedFact[] = [
    {
      kind: 'run.opened',
      data: {
        ...about,
        tick: run.tick,
        nominal: run.nominal === null ? null : Math.round(run.nominal),
        cause: 'redrive',
        openedAt: at,
        manifest: run.manifest.run,
        params: run.params,
      },
    },
    { kind: 'run.planned', data: { ...about, chunks: chunks.length, items, duplicates: 0, plannedAt: at, replaced } },
  ];
  await tx.query(
    `update planner.runs set generation = $2, state = 'running', closed_at = null, verdict = null, progress_at = now(), told = 0, facts = facts || $3::jsonb, owed = true, trace = $4 where run_id = $1`,
    [request.runId, generation, JSON.stringify(facts), JSON.stringify(request.trace)],
  );
  return 'opened';
}
