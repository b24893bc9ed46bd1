import { keysIn, type Milliseconds, noCounts, OUTCOMES } from '@millrace/core';
import type { Queryable } from '@millrace/postgres';
import type { Books, BooksReport } from '../books.ts';
import {
  BooksComparison,
  type ChunkBooks,
  type Finding,
  type LedgerOfRun,
  type LedgerPass,
  type PlanOfRun,
} from '../domain/compare-books.ts';

/** Chunks compared per round trip, so that a run of any size needs little memory. */
const PAGE = 2_000;
const MAX_PROBLEMS = 200;
const MAX_KEYS = 1_000;
/** Plan and ledger learn of the end of a run one after the other; a closure this young may not have reached both. */
const SETTLING: Milliseconds = 60_000;

/** Reads the books of plan, ledger and the inbox of the default database. SELECT is all it needs. */
export class PostgresBooks implements Books {
  readonly #db: Queryable;
  readonly #inboxRetention: Milliseconds;

  constructor(db: Queryable, inboxRetention: Milliseconds) {
    this.#db = db;
    this.#inboxRetention = inboxRetention;
  }

  check(runId: string): Promise<BooksReport | undefined> {
    return checkBooks(this.#db, runId, this.#inboxRetention);
  }

  /** Each table is read in jumps along its primary key: the cost grows with runs, not with chunks. */
  async runIds(limit: number, after = ''): Promise<readonly string[]> {
    const jumps = ['planner.runs', 'audit.runs', 'planner.chunks', 'audit.chunks', 'audit.generations'].map(
      (table) => `(with recursive jump as (
        (select run_id, 1 as n from ${table} where run_id > $1 order by run_id limit 1)
        union all
        select (select t.run_id from ${table} t where t.run_id > jump.run_id order by t.run_id limit 1), n + 1 from jump where jump.run_id is not null and n < $2)
        select run_id from jump where run_id is not null)`,
    );
    const { rows } = await this.#db.query<{ run_id: string }>(
      `select run_id from (${jumps.join(' union ')}) ids
       where run_id not in (select run_id from planner.runs where purged_at is not null union all select run_id from audit.runs where purged_at is not null)
       order by run_id limit $2`,
      [after, limit],
    );
    return rows.map((row) => row.run_id);
  }
}

export async function checkBooks(db: Queryable, runId: string, inboxRetention: Milliseconds = 0): Promise<BooksReport | undefined> {
  const [plan, ledger] = [await planOf(db, runId), await ledgerOf(db, runId)];
  const passes = await passesOf(db, runId);
  const known = plan ?? ledger ?? passes[0] ?? (await chunksOf(db, runId, true).next()).value;
  if (!known || plan?.purged || ledger?.purged) return undefined;

  const inbox = await inboxOf(db, plan, runId, inboxRetention);
  const stage = stageOf(plan, ledger);
  const closed = stage === 'closed';
  const comparison = new BooksComparison({ plan, ledger, passes }, { closed, inbox: inbox === 'checked' });
  const problems: BooksReport['problems'] = [];
  let more = 0;
  const report = async (findings: readonly Finding[]) => {
    for (const { what, chunk, detail, seq, positions = [] } of findings) {
      if (problems.length >= MAX_PROBLEMS) {
        more++;
        continue;
      }
      const keys = seq === undefined ? [] : await keysOf(db, runId, seq, positions);
      problems.push({ what, chunk, detail, ...(keys.length > 0 ? { keys } : {}) });
    }
  };
  await report(comparison.begin());
  for await (const layers of chunksOf(db, runId, inbox !== 'elsewhere')) await report(comparison.chunk(layers));
  await report(comparison.end());
  for (const { key, chunks } of await doubledKeys(db, runId))
    problems.push({
      what: 'key planned twice',
      chunk: `0/${chunks[0]}`,
      detail: `in ${chunks.length > 1 ? `chunks ${chunks.join(', ')}` : `chunk ${chunks[0]}`}`,
      keys: [key],
    });
  if (more > 0) problems.push({ what: 'more problems', chunk: null, detail: `${more} beyond the first ${MAX_PROBLEMS}` });
  // A redrive that began meanwhile makes two moments of one book look like two books that differ.
  if (problems.length > 0 && passOf(plan, ledger) !== passOf(await planOf(db, runId), await ledgerOf(db, runId)))
    return checkBooks(db, runId, inboxRetention);
  return { runId, ok: problems.length === 0, closed, settling: stage === 'settling', balance: comparison.balance(), inbox, problems };
}

function passOf(plan: PlanRow | undefined, ledger: LedgerRow | undefined): string {
  return [plan?.state, plan?.generation, ledger?.state, ledger?.generation].join();
}

interface PlanRow extends PlanOfRun {
  readonly job: string;
  readonly inbox: 'here' | 'elsewhere' | null;
  /** Milliseconds since the run was opened. */
  readonly age: Milliseconds;
  readonly purged: boolean;
}

type LedgerRow = LedgerOfRun & { readonly closed_for: Milliseconds | null; readonly purged: boolean };

async function planOf(db: Queryable, runId: string): Promise<PlanRow | undefined> {
  const { rows } = await db.query<PlanRow>(
    `select job, state, generation, items::float8 as items, duplicates::float8 as duplicates, next_seq as chunks, manifest ->> 'inbox' as inbox,
       (extract(epoch from now() - opened_at) * 1000)::float8 as age, purged_at is not null as purged
     from planner.runs where run_id = $1`,
    [runId],
  );
  return rows[0];
}

async function ledgerOf(db: Queryable, runId: string): Promise<LedgerRow | undefined> {
  const { rows } = await db.query<Omit<LedgerRow, 'counts'> & Record<string, number>>(
    `select state, generation, verdict, planned::float8 as planned, ${OUTCOMES.map((outcome) => `${outcome}::float8 as ${outcome}`).join(', ')},
       (extract(epoch from now() - closed_at) * 1000)::float8 as closed_for, purged_at is not null as purged
     from audit.runs where run_id = $1`,
    [runId],
  );
  const row = rows[0];
  if (!row) return undefined;
  const counts = noCounts();
  for (const outcome of OUTCOMES) counts[outcome] = row[outcome] ?? 0;
  return { ...row, counts };
}

async function passesOf(db: Queryable, runId: string): Promise<readonly LedgerPass[]> {
  const { rows } = await db.query<LedgerPass>(
    `select generation, items::float8 as items, duplicates::float8 as duplicates, final, closed_at is not null as closed, verdict
     from audit.generations where run_id = $1 order by generation`,
    [runId],
  );
  return rows;
}

/**
 * Closed: both books say so, or only one does and the other has had time to hear of it. A plan that is a generation ahead of the
 * ledger is a redrive that has just begun.
 */
function stageOf(plan: PlanRow | undefined, ledger: LedgerRow | undefined): 'open' | 'settling' | 'closed' {
  if (plan?.state === 'closed') return 'closed';
  if (ledger?.state !== 'closed') return 'open';
  if (!plan) return 'closed';
  if (plan.generation > ledger.generation) return 'open';
  return (ledger.closed_for ?? 0) > SETTLING ? 'closed' : 'settling';
}

/**
 * The plan says where the inbox is, so that an emptied one is noticed. Rows that are here are compared in any case: a pool of the
 * job's own may lead to this database.
 */
async function inboxOf(db: Queryable, plan: PlanRow | undefined, runId: string, retention: Milliseconds): Promise<BooksReport['inbox']> {
  if (plan && retention > 0 && plan.age > retention) return 'expired';
  if (plan?.inbox === 'here') return 'checked';
  if (!(await hasInbox(db))) return 'elsewhere';
  // Plans of versions that did not say: told by a job that never left a row here.
  const { rows } =
    plan?.inbox === 'elsewhere'
      ? await db.query('select 1 from millrace.inbox where run_id = $1 limit 1', [runId])
      : await db.query(`select 1 from millrace.inbox where job = $1 limit 1`, [plan?.job ?? runId.split('@')[0]]);
  return rows.length > 0 ? 'checked' : 'elsewhere';
}

async function hasInbox(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ there: boolean }>(`select to_regclass('millrace.inbox') is not null as there`);
  return rows[0]?.there === true;
}

/** All layers of each chunk, from generation 0 up, chunk by chunk. */
async function* chunksOf(db: Queryable, runId: string, withInbox: boolean): AsyncGenerator<[ChunkBooks, ...ChunkBooks[]], undefined> {
  const inbox = withInbox && (await hasInbox(db));
  const tables = ['planner.chunks', 'audit.chunks', ...(inbox ? ['millrace.inbox'] : [])];
  const {
    rows: [last],
  } = await db.query<{ last: number | null }>(
    `select greatest(${tables.map((table) => `(select max(seq) from ${table} where run_id = $1)`).join(', ')}) as last`,
    [runId],
  );
  const page = (table: string, columns: string) =>
    `(select seq, generation, ${columns} from ${table} where run_id = $1 and seq >= $2 and seq < $3)`;
  const none = `(select null::integer as seq, null::integer as generation, null::integer as size, null::text as outcomes where false)`;
  for (let from = 0; from <= (last?.last ?? -1); from += PAGE) {
    const { rows } = await db.query<ChunkBooks>(
      `select seq, generation, p.size as plan_size, p.outcomes as plan, p.state as plan_state, l.size as ledger_size, l.outcomes as ledger, i.size as inbox_size, i.outcomes as inbox
       from ${page('planner.chunks', 'size, outcomes, state')} p
       full join ${page('audit.chunks', 'size, outcomes')} l using (seq, generation)
       full join ${inbox ? page('millrace.inbox', 'size, outcomes') : none} i using (seq, generation)
       order by seq, generation`,
      [runId, from, from + PAGE],
    );
    let layers: ChunkBooks[] = [];
    for (const row of rows) {
      if (isNotEmpty(layers) && layers[0].seq !== row.seq) {
        yield layers;
        layers = [];
      }
      layers.push(row);
    }
    if (isNotEmpty(layers)) yield layers;
  }
  return undefined;
}

function isNotEmpty<T>(list: T[]): list is [T, ...T[]] {
  return list.length > 0;
}

/** NUL and lone surrogates may stand in the data of items, and PostgreSQL cannot read them; keys have none. */
const READABLE = `(case when strpos(payload, '\\u') > 0 then regexp_replace(payload, '\\\\u(0000|d[89a-f][0-9a-f]{2})', '\\\\u0001', 'gi') else payload end)::json`;

/** Counted by the database, which spills to disk what does not fit its memory. */
async function doubledKeys(db: Queryable, runId: string): Promise<readonly { key: string; chunks: readonly number[] }[]> {
  const { rows } = await db.query<{ key: string; chunks: readonly number[] }>(
    `select key, array_agg(distinct seq order by seq) as chunks
     from (select seq, item ->> 0 as key from planner.chunks, json_array_elements(${READABLE}) item where run_id = $1 and generation = 0) planned
     group by key having count(*) > 1 order by key limit ${MAX_PROBLEMS}`,
    [runId],
  );
  return rows;
}

async function keysOf(db: Queryable, runId: string, seq: number, positions: readonly number[]): Promise<string[]> {
  if (positions.length === 0) return [];
  const { rows } = await db.query<{ payload: string | null }>(
    'select payload from planner.chunks where run_id = $1 and generation = 0 and seq = $2',
    [runId, seq],
  );
  const keys = keysIn(rows[0]?.payload ?? '[]');
  return positions.slice(0, MAX_KEYS).flatMap((position) => keys[position] ?? []);
}
