import { countStates, decodeStates, type ItemState, noCounts, OUTCOMES, sumCounts } from '@millrace/core';
import type { Queryable } from '@millrace/postgres';
import Type, { type Static } from 'typebox';

export const BooksView = Type.Object({
  runId: Type.String(),
  ok: Type.Boolean({ description: 'No problem was found. An open run is checked only for what is settled.' }),
  closed: Type.Boolean(),
  balance: Type.Object(
    {
      planned: Type.Integer(),
      applied: Type.Integer(),
      skipped: Type.Integer(),
      duplicate: Type.Integer(),
      failed: Type.Integer(),
      rejected: Type.Integer(),
      cancelled: Type.Integer(),
      expired: Type.Integer(),
      indeterminate: Type.Integer(),
      open: Type.Integer({ description: 'Items that still owe an outcome' }),
    },
    { description: 'Rebuilt from settled chunks: planned = applied + … + indeterminate + open' },
  ),
  inbox: Type.Union([Type.Literal('checked'), Type.Literal('elsewhere')], {
    description: 'elsewhere: the sink of this job writes to another database',
  }),
  problems: Type.Array(
    Type.Object({
      what: Type.String(),
      chunk: Type.Union([Type.String(), Type.Null()]),
      detail: Type.String(),
      keys: Type.Optional(Type.Array(Type.String())),
    }),
  ),
});
export type BooksReport = Static<typeof BooksView>;

export interface Books {
  check(runId: string): Promise<BooksReport>;
}

/** Chunks compared per round trip, so that a run of any size needs little memory. */
const PAGE = 2_000;
const MAX_PROBLEMS = 200;
const MAX_KEYS = 1_000;

export class PostgresBooks implements Books {
  readonly #db: Queryable;

  constructor(db: Queryable) {
    this.#db = db;
  }

  check(runId: string): Promise<BooksReport> {
    return checkBooks(this.#db, runId);
  }
}

interface ChunkRow {
  seq: number;
  generation: number;
  plan_size: number | null;
  plan: string | null;
  plan_state: string | null;
  ledger_size: number | null;
  ledger: string | null;
  inbox_size: number | null;
  inbox: string | null;
}

/**
 * Rebuilds the balance sheet of a run from its chunks and compares three books that were written apart: the plan
 * (what was to be done), the inbox (what was committed with the effects) and the ledger (what people are told).
 * A closed run must agree everywhere; of an open one, only what is settled can.
 */
export async function checkBooks(db: Queryable, runId: string): Promise<BooksReport> {
  const {
    rows: [ledger],
  } = await db.query<Record<string, string | number | null>>(
    `select job, state, generation, planned, ${OUTCOMES.join(', ')} from audit.runs where run_id = $1`,
    [runId],
  );
  const {
    rows: [plan],
  } = await db.query<{ job: string; state: string; generation: number; items: string; duplicates: string; next_seq: number }>(
    'select job, state, generation, items, duplicates, next_seq from planner.runs where run_id = $1',
    [runId],
  );
  const closed = ledger?.['state'] === 'closed';
  const problems: BooksReport['problems'] = [];
  const report = (what: string, chunk: string | null, detail: string, keys?: string[]) => {
    if (problems.length < MAX_PROBLEMS) problems.push({ what, chunk, detail, ...(keys && keys.length > 0 ? { keys } : {}) });
  };

  if (!plan) report('run missing in plan', null, 'planner.runs has no row of this run');
  if (!ledger) report('run missing in ledger', null, 'audit.runs has no row of this run');
  if (plan && ledger && closed && plan.state !== 'closed')
    report('state differs', null, `closed in the ledger, ${plan.state} in the plan: the planner has not heard of it yet`);
  if (plan && ledger && closed && plan.generation !== ledger['generation'])
    report('generation differs', null, `plan ${plan.generation}, ledger ${String(ledger['generation'])}`);

  const inboxHere = await hasInbox(db, plan?.job ?? String(ledger?.['job'] ?? ''));
  const counts = noCounts();
  let open = 0;
  let items = 0;
  for await (const layers of chunksOf(db, runId, inboxHere)) {
    const first = layers[0] as ChunkRow;
    const size = first.plan_size ?? first.ledger_size ?? first.inbox_size ?? 0;
    const current = new Array<ItemState>(size).fill('p');
    items += size;
    for (const layer of layers) {
      const chunk = `${layer.generation}/${layer.seq}`;
      const keysAt = (positions: readonly number[]) => keysOf(db, runId, layer.seq, positions);
      const told = layer.ledger === null ? undefined : decodeStates(layer.ledger, size);
      if (layer.ledger !== null && !told)
        report('malformed outcomes', chunk, `ledger says ${JSON.stringify(layer.ledger)} for ${size} item(s)`);
      // A generation above 0 covers only the items it took; the plan says which.
      const taken = decodeStates(layer.plan ?? layer.inbox ?? layer.ledger ?? '', size) ?? new Array<ItemState>(size).fill('p');
      for (let i = 0; i < size; i++) {
        const state = told?.[i] ?? (layer.generation === 0 || taken[i] !== '-' ? 'p' : '-');
        if (state !== '-') current[i] = state;
      }
      if (!closed) continue;
      const covered = taken.flatMap((state, i) => (state === '-' ? [] : [i]));
      if (layer.plan_state === null) report('chunk missing in plan', chunk, 'settled, but the plan has no such chunk');
      if (layer.ledger === null)
        report('chunk missing in ledger', chunk, `${covered.length} item(s) without a fate in the ledger`, await keysAt(covered));
      if (inboxHere && layer.inbox === null)
        report('chunk missing in inbox', chunk, `${covered.length} item(s) whose commit has no record`, await keysAt(covered));
      for (const [name, other] of [
        ['inbox', layer.inbox],
        ['plan', layer.plan],
      ] as const) {
        if (other === null || layer.ledger === null || other === layer.ledger) continue;
        const states = decodeStates(other, size);
        const differing = current.flatMap((_, i) => (states?.[i] === told?.[i] ? [] : [i]));
        report(
          'outcomes differ',
          chunk,
          `${name} ${summary(other)}, ledger ${summary(layer.ledger)}: ${differing.length} item(s)`,
          await keysAt(differing),
        );
      }
    }
    const text = current.map((state) => `1${state}`).join('');
    const sum = countStates(text);
    for (const outcome of OUTCOMES) counts[outcome] += sum.counts[outcome];
    open += sum.open;
    if (closed && sum.open > 0) {
      const positions = current.flatMap((state, i) => (state === 'p' || state === 'f' ? [i] : []));
      report(
        'open items in a closed run',
        `${layers.at(-1)?.generation ?? 0}/${first.seq}`,
        `${sum.open} item(s) without a final outcome`,
        await keysOf(db, runId, first.seq, positions),
      );
    }
  }

  const duplicates = Number(plan?.duplicates ?? 0);
  counts.duplicate += duplicates;
  const planned = Number(plan?.items ?? items) + duplicates;
  if (plan && items !== Number(plan.items))
    report('chunks missing in plan', null, `the run has ${plan.items} item(s), its chunks hold ${items}`);
  if (ledger && closed) {
    const wrong = OUTCOMES.filter((outcome) => Number(ledger[outcome]) !== counts[outcome]).map(
      (outcome) => `${outcome} ${String(ledger[outcome])}, rebuilt ${counts[outcome]}`,
    );
    if (Number(ledger['planned']) !== planned) wrong.unshift(`planned ${String(ledger['planned'])}, rebuilt ${planned}`);
    if (wrong.length > 0) report('ledger counts differ', null, wrong.join('; '));
  }
  if (closed && sumCounts(counts) + open !== planned)
    report('the equation does not hold', null, `planned ${planned}, accounted for ${sumCounts(counts) + open}`);
  return {
    runId,
    ok: problems.length === 0,
    closed,
    balance: { planned, ...counts, open },
    inbox: inboxHere ? 'checked' : 'elsewhere',
    problems,
  };
}

/** A sink may write to another database; then its inbox is there. Told by a job that never left a row in this one. */
async function hasInbox(db: Queryable, job: string): Promise<boolean> {
  const {
    rows: [table],
  } = await db.query<{ there: boolean }>(`select to_regclass('millrace.inbox') is not null as there`);
  if (!table?.there) return false;
  const { rows } = await db.query('select 1 from millrace.inbox where job = $1 limit 1', [job]);
  return rows.length > 0;
}

/** All layers of each chunk, from generation 0 up, chunk by chunk. */
async function* chunksOf(db: Queryable, runId: string, inboxHere: boolean): AsyncGenerator<ChunkRow[]> {
  const {
    rows: [last],
  } = await db.query<{ last: number | null }>(
    `select greatest((select max(seq) from planner.chunks where run_id = $1), (select max(seq) from audit.chunks where run_id = $1)${
      inboxHere ? ', (select max(seq) from millrace.inbox where run_id = $1)' : ''
    }) as last`,
    [runId],
  );
  const page = (table: string, columns: string) =>
    `(select seq, generation, ${columns} from ${table} where run_id = $1 and seq >= $2 and seq < $3)`;
  for (let from = 0; from <= (last?.last ?? -1); from += PAGE) {
    const { rows } = await db.query<ChunkRow>(
      `select seq, generation, p.size as plan_size, p.outcomes as plan, p.state as plan_state, l.size as ledger_size, l.outcomes as ledger, i.size as inbox_size, i.outcomes as inbox
       from ${page('planner.chunks', 'size, outcomes, state')} p
       full join ${page('audit.chunks', 'size, outcomes')} l using (seq, generation)
       full join ${inboxHere ? page('millrace.inbox', 'size, outcomes') : `(select null::integer as seq, null::integer as generation, null::integer as size, null::text as outcomes where false)`} i using (seq, generation)
       order by seq, generation`,
      [runId, from, from + PAGE],
    );
    for (let start = 0; start < rows.length; ) {
      let end = start + 1;
      while (end < rows.length && rows[end]?.seq === rows[start]?.seq) end++;
      yield rows.slice(start, end);
      start = end;
    }
  }
}

async function keysOf(db: Queryable, runId: string, seq: number, positions: readonly number[]): Promise<string[]> {
  if (positions.length === 0) return [];
  const { rows } = await db.query<{ payload: string | null }>(
    'select payload from planner.chunks where run_id = $1 and generation = 0 and seq = $2',
    [runId, seq],
  );
  const items = JSON.parse(rows[0]?.payload ?? '[]') as [string, unknown][];
  return positions.slice(0, MAX_KEYS).flatMap((position) => items[position]?.[0] ?? []);
}

function summary(outcomes: string): string {
  const { counts, open } = countStates(outcomes);
  const parts = OUTCOMES.filter((outcome) => counts[outcome] > 0).map((outcome) => `${counts[outcome]} ${outcome}`);
  return [...parts, ...(open > 0 ? [`${open} open`] : [])].join(', ') || 'nothing';
}
