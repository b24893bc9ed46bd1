import { decodeStates, encodeStates, type ItemState, noCounts, outcomeOf } from '@millrace/core';
import type { Queryable } from '@millrace/postgres';
import type { OwedFact, RedriveRequest } from '../plan-store.ts';

/** What a redrive takes by default. Indeterminate items may have had their effect: they need an explicit wish. */
const REDRIVEN: readonly ItemState[] = ['x', 'r', 'c', 'e'];

/**
 * Opens the next generation of a closed run over its failing items: one new chunk row per touched chunk, in which the
 * items that stay as they are have the state '-'. Applied items are never touched. Cost grows with failing chunks.
 */
export async function redriveRun(tx: Queryable, request: RedriveRequest): Promise<'opened' | 'known' | 'open' | 'unknown' | 'empty'> {
  const { rows: runs } = await tx.query<{
    job: string;
    tick: string;
    state: string;
    generation: number;
    nominal: number | null;
    manifest: { run: unknown };
    params: unknown;
  }>(
    `select job, tick, state, generation, (extract(epoch from nominal) * 1000)::float8 as nominal, manifest, params from planner.runs where run_id = $1 for update`,
    [request.runId],
  );
  const run = runs[0];
  if (!run) return 'unknown';
  if (run.generation >= request.generation) return 'known';
  if (run.state !== 'closed') return 'open';

  const { rows } = await tx.query<{
    generation: number;
    seq: number;
    size: number;
    outcomes: string;
    failures: Record<string, string> | null;
    payload: string | null;
  }>(
    `select c.generation, c.seq, c.size, c.outcomes, c.failures, case when $2 and c.generation = 0 then c.payload end as payload
     from planner.chunks c
     where c.run_id = $1 and c.outcomes is not null
       and c.seq in (select f.seq from planner.chunks f where f.run_id = $1 and f.outcomes ~ '[xrce]')
     order by c.seq, c.generation`,
    [request.runId, request.keys !== undefined],
  );

  const replaced = noCounts();
  const generation = run.generation + 1;
  const chunks: { seq: number; size: number; outcomes: string }[] = [];
  let items = 0;
  for (const layers of groupBySeq(rows)) {
    const { seq, size } = layers[0] as (typeof rows)[number];
    const states = new Array<ItemState>(size).fill('-');
    const groups = new Array<string | undefined>(size);
    for (const layer of layers) {
      for (const [position, state] of (decodeStates(layer.outcomes, size) ?? []).entries()) {
        if (state === '-') continue;
        states[position] = state;
        groups[position] = layer.failures?.[String(position)];
      }
    }
    const keys = request.keys && (JSON.parse(layers[0]?.payload ?? '[]') as [string, unknown][]).map(([key]) => key);
    const taken = states.map((state, position): ItemState => {
      const wanted =
        REDRIVEN.includes(state) &&
        (request.group === undefined || groups[position] === request.group) &&
        (request.keys === undefined || request.keys.includes(keys?.[position] ?? ''));
      if (!wanted) return '-';
      const outcome = outcomeOf(state);
      if (outcome) replaced[outcome]++;
      items++;
      return 'p';
    });
    if (taken.includes('p')) chunks.push({ seq, size, outcomes: encodeStates(taken) });
  }
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
    `update planner.runs set generation = $2, state = 'running', closed_at = null, verdict = null, progress_at = now(), facts = facts || $3::jsonb, owed = true, trace = $4 where run_id = $1`,
    [request.runId, generation, JSON.stringify(facts), JSON.stringify(request.trace)],
  );
  return 'opened';
}

function* groupBySeq<Row extends { seq: number }>(rows: readonly Row[]): Generator<Row[]> {
  let group: Row[] = [];
  for (const row of rows) {
    if (group[0] && group[0].seq !== row.seq) {
      yield group;
      group = [];
    }
    group.push(row);
  }
  if (group[0]) yield group;
}
