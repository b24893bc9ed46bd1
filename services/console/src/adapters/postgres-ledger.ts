import { type Instant, OUTCOMES, type RunVerdict, type Trace } from '@millrace/core';
import type { Queryable } from '@millrace/postgres';
import type { FailedItem, FailureGroup, Ledger, LedgerRun, RunState } from '../ledger.ts';

const ms = (column: string) => `(extract(epoch from ${column}) * 1000)::float8`;

const RUN = `select r.run_id, r.job, r.tick, r.cause, r.params, r.state, r.verdict, r.generation, r.plan_error, r.trace, r.planned, ${OUTCOMES.map((o) => `r.${o}`).join(', ')},
    ${ms('r.opened_at')} as opened_at, ${ms('r.closed_at')} as closed_at,
    ${ms('coalesce(case when r.generation > 0 then g.opened_at end, r.opened_at)')} as pass_opened_at, g.items as pass_items
  from audit.runs r left join audit.generations g on g.run_id = r.run_id and g.generation = r.generation`;

/** SELECT on the audit's schema and nothing else: a database role with no more than that is enough. */
export class PostgresLedger implements Ledger {
  readonly #db: Queryable;

  constructor(db: Queryable) {
    this.#db = db;
  }

  async listRuns(filter: { job?: string; state?: RunState; limit: number; after?: string }): Promise<readonly LedgerRun[]> {
    const { rows } = await this.#db.query<RunRow>(
      `${RUN} left join audit.runs a on a.run_id = $3
       where ($1::text is null or r.job = $1) and ($2::text is null or r.state = $2)
         and ($3::text is null or r.opened_at < a.opened_at or (r.opened_at = a.opened_at and r.run_id > a.run_id))
       order by r.opened_at desc, r.run_id limit $4`,
      [filter.job ?? null, filter.state ?? null, filter.after ?? null, filter.limit],
    );
    return rows.map(runOf);
  }

  async findRun(runId: string): Promise<LedgerRun | undefined> {
    const { rows } = await this.#db.query<RunRow>(`${RUN} where r.run_id = $1`, [runId]);
    return rows[0] && runOf(rows[0]);
  }

  async liveRuns(newest: number, also: readonly string[]): Promise<readonly LedgerRun[]> {
    const { rows } = await this.#db.query<RunRow>(
      `${RUN} where r.run_id in (
         (select run_id from audit.runs order by opened_at desc, run_id limit $1)
         union (select run_id from audit.runs where state <> 'closed' order by opened_at desc limit 200)
         union select unnest($2::text[]))
       order by r.opened_at desc, r.run_id`,
      [newest, also],
    );
    return rows.map(runOf);
  }

  async failureGroups(runId: string, limit: number): Promise<readonly FailureGroup[]> {
    const { rows } = await this.#db.query<{ fingerprint: string; title: string; class: string; count: number }>(
      `select fingerprint, min(title) as title, min(class) as class, count(*)::float8 as count
       from audit.failures where run_id = $1 group by fingerprint order by count(*) desc, fingerprint limit $2`,
      [runId, limit],
    );
    return rows;
  }

  async listFailures(runId: string, filter: { group?: string; limit: number; after?: string }): Promise<readonly FailedItem[]> {
    const [seq, position] = (filter.after ?? '-1.-1').split('.').map(Number);
    const { rows } = await this.#db.query<FailureRow>(
      `select seq, position, key, fingerprint, class, title, message, generation, attempt, final, ${ms('at')} as at
       from audit.failures where run_id = $1 and ($2::text is null or fingerprint = $2) and (seq, position) > ($3::integer, $4::integer)
       order by seq, position limit $5`,
      [runId, filter.group ?? null, seq, position, filter.limit],
    );
    return rows.map(({ seq: s, position: p, at, ...rest }) => ({ cursor: `${s}.${p}`, ...rest, at: Math.round(at) }));
  }

  async countFailures(runId: string, selection: { group?: string; keys?: readonly string[] }): Promise<number> {
    const { rows } = await this.#db.query<{ count: number }>(
      `select count(*)::float8 as count from audit.failures
       where run_id = $1 and ($2::text is null or fingerprint = $2) and ($3::text[] is null or key = any($3))`,
      [runId, selection.group ?? null, selection.keys ?? null],
    );
    return rows[0]?.count ?? 0;
  }

  async ping(): Promise<void> {
    await this.#db.query('select 1 from audit.runs limit 1');
  }
}

interface RunRow extends Record<(typeof OUTCOMES)[number], string> {
  run_id: string;
  job: string;
  tick: string;
  cause: string;
  params: unknown;
  state: RunState;
  verdict: RunVerdict | null;
  generation: number;
  plan_error: { code: string; message: string } | null;
  trace: Trace;
  planned: string;
  opened_at: Instant;
  closed_at: Instant | null;
  pass_opened_at: Instant;
  pass_items: string | null;
}

interface FailureRow {
  seq: number;
  position: number;
  key: string;
  fingerprint: string;
  class: string;
  title: string;
  message: string;
  generation: number;
  attempt: number;
  final: boolean;
  at: Instant;
}

function runOf(row: RunRow): LedgerRun {
  return {
    runId: row.run_id,
    job: row.job,
    tick: row.tick,
    cause: row.cause,
    params: row.params,
    state: row.state,
    verdict: row.verdict,
    generation: row.generation,
    openedAt: Math.round(row.opened_at),
    closedAt: row.closed_at === null ? null : Math.round(row.closed_at),
    passOpenedAt: Math.round(row.pass_opened_at),
    passItems: row.pass_items === null ? null : Number(row.pass_items),
    planError: row.plan_error,
    planned: Number(row.planned),
    trace: row.trace,
    counts: Object.fromEntries(OUTCOMES.map((outcome) => [outcome, Number(row[outcome])])) as LedgerRun['counts'],
  };
}
