import type { Database, Queryable } from '@millrace/postgres';
import { fateOf, LETTER, type Load } from './items.ts';

/** Rows shown of each violation. */
const SHOWN = 5;
const TICK_EVERY_S = 10;

const OUTCOMES: readonly (readonly [column: string, letter: string])[] = [
  ['applied', 'a'],
  ['skipped', 's'],
  ['duplicate', 'd'],
  ['failed', 'x'],
  ['rejected', 'r'],
  ['cancelled', 'c'],
  ['expired', 'e'],
  ['indeterminate', 'i'],
];

/**
 * The invariants, asked of the tables themselves; nothing here goes through the services or their counters.
 * Each query returns the rows that break it. `mine` are the runs opened before the end of the chaos.
 */
const CHECKS: readonly (readonly [invariant: string, what: string, sql: string])[] = [
  [
    'I1',
    'two runs of one nominal instant',
    `select job, nominal, count(*) from planner.runs where nominal is not null group by 1, 2 having count(*) > 1`,
  ],
  [
    'I1',
    'a run that only one of plan and ledger knows',
    `select p.run_id as plan, l.run_id as ledger from planner.runs p full join audit.runs l using (run_id) join chaos_check.mine m on m.run_id = coalesce(p.run_id, l.run_id) where p.run_id is null or l.run_id is null`,
  ],
  [
    'I1',
    'ticks that overlap or leave a gap',
    `select * from (select nominal, through, lead(nominal) over (order by nominal) as next from planner.ticks where job = 'chaos-tick') t where next <> through + interval '${TICK_EVERY_S} seconds'`,
  ],
  [
    'I1',
    'a tick that ran and has no run, or did not run',
    `select t.nominal, t.result from planner.ticks t left join planner.runs r using (job, nominal) where t.job = 'chaos-tick' and (t.result <> 'ran' or r.run_id is null)`,
  ],
  [
    'I1',
    'a run that began before its time',
    `select run_id, nominal, opened_at from planner.runs where cause = 'tick' and opened_at < nominal - interval '250 milliseconds'`,
  ],
  ['I2', 'an effect applied more than once', `select run, item, count(*) from chaos_effects group by 1, 2 having count(*) > 1`],
  ['I2', 'an item planned more than once', `select run_id, item, count(*) from chaos_check.actual group by 1, 2 having count(*) > 1`],
  [
    'I3',
    'applied, but without an effect',
    `select a.run_id, a.item from chaos_check.actual a left join chaos_effects e on e.run = a.run_id and e.item = a.item where a.state = 'a' and e.item is null`,
  ],
  [
    'I3',
    'an effect of an item that is not applied',
    `select e.run, e.item, a.state from chaos_effects e join chaos_check.mine m on m.run_id = e.run left join chaos_check.actual a on e.run = a.run_id and e.item = a.item where a.state is distinct from 'a'`,
  ],
  [
    'I3',
    'inbox and ledger tell different stories',
    `select c.run_id, c.generation, c.seq, c.outcomes as ledger, i.outcomes as inbox from audit.chunks c join chaos_check.mine using (run_id) left join millrace.inbox i using (run_id, generation, seq) where i.outcomes is distinct from c.outcomes`,
  ],
  [
    'I4',
    'an item without its outcome, lost or made up',
    `select coalesce(x.run_id, a.run_id) as run, coalesce(x.item, a.item) as item, x.state as expected, a.state as found from chaos_check.expected x full join chaos_check.actual a on a.run_id = x.run_id and a.item = x.item where a.state is distinct from x.state`,
  ],
  [
    'I4',
    'a run that is not closed',
    `select r.run_id, r.state, r.sealed, l.state as ledger from planner.runs r join chaos_check.mine using (run_id) left join audit.runs l using (run_id) where r.state <> 'closed' or not r.sealed or l.state is distinct from 'closed'`,
  ],
  [
    'I4',
    'a balance sheet that does not add up',
    `select run_id, planned, ${OUTCOMES.map(([column]) => column).join(', ')} from audit.runs join chaos_check.mine using (run_id) where planned <> ${OUTCOMES.map(([column]) => column).join(' + ')}`,
  ],
  [
    'I4',
    'a balance sheet that differs from its chunks',
    `select l.run_id, ${['planned', ...OUTCOMES.map(([column]) => column)].map((column) => `l.${column} as ${column}_told, a.${column} as ${column}_found`).join(', ')} from audit.runs l join chaos_check.mine using (run_id) left join (
       select run_id, count(*) as planned, ${OUTCOMES.map(([column, letter]) => `count(*) filter (where state = '${letter}') as ${column}`).join(', ')}
       from chaos_check.actual group by run_id) a using (run_id)
     where ${['planned', ...OUTCOMES.map(([column]) => column)].map((column) => `l.${column} is distinct from a.${column}`).join(' or ')}`,
  ],
];

/** From the run-length text of the ledger and the payload of the plan: one row per item. */
const ACTUAL = `create unlogged table chaos_check.actual as
  select l.run_id, (keys.pair ->> 0)::integer as item, states.letter as state
  from audit.chunks l
  join chaos_check.mine using (run_id)
  join planner.chunks p on p.run_id = l.run_id and p.generation = 0 and p.seq = l.seq
  cross join lateral (
    select row_number() over (order by m.ord, g) as position, m.parts[2] as letter
    from regexp_matches(l.outcomes, '(\\d+)([-a-z])', 'g') with ordinality as m (parts, ord), generate_series(1, m.parts[1]::integer) g) states
  join lateral json_array_elements(p.payload::json) with ordinality as keys (pair, ord) on keys.ord = states.position
  where l.generation = 0`;

/** Every violation of I1 to I4, in words. `runs` says what the triggered runs had to do. */
export async function checkInvariants(db: Database, runs: ReadonlyMap<string, Load>, before: string): Promise<string[]> {
  return db.transaction(async (tx) => {
    await tx.query('drop schema if exists chaos_check cascade');
    await tx.query('create schema chaos_check');
    await tx.query('create table chaos_check.mine as select run_id, job from planner.runs where opened_at <= $1::text::timestamptz', [
      before,
    ]);
    await tx.query(ACTUAL);
    await expect(tx, runs);
    for (const table of ['actual', 'expected']) {
      await tx.query(`create index on chaos_check.${table} (run_id, item)`);
      await tx.query(`analyze chaos_check.${table}`);
    }
    await tx.query('create index if not exists chaos_effects_by_item on chaos_effects (run, item)');
    await tx.query('analyze chaos_effects');
    const violations: string[] = [];
    for (const [invariant, what, sql] of CHECKS) {
      const { rows } = await tx.query(`select * from (${sql}) broken limit 10000`);
      if (rows.length === 0) continue;
      const shown = rows.slice(0, SHOWN).map((row) => JSON.stringify(row));
      violations.push(`${invariant}: ${what} (${rows.length}${rows.length === 10_000 ? ' or more' : ''}): ${shown.join(' ')}`);
    }
    return violations;
  });
}

async function expect(tx: Queryable & { copy: CopyRows }, runs: ReadonlyMap<string, Load>): Promise<void> {
  await tx.query('create unlogged table chaos_check.expected (run_id text, item integer, state text)');
  for (const [run, load] of runs) {
    for (let from = 0; from < load.items; from += 20_000) {
      const rows = Array.from({ length: Math.min(20_000, load.items - from) }, (_, i) => [run, from + i, LETTER[fateOf(from + i, load)]]);
      await tx.copy('chaos_check.expected', ['run_id', 'item', 'state'], rows);
    }
  }
  await tx.query(
    `insert into chaos_check.expected select m.run_id, item, 'a' from chaos_check.mine m, generate_series(0, 19) as item where m.job = 'chaos-tick'`,
  );
}

type CopyRows = (table: string, columns: readonly string[], rows: readonly (readonly unknown[])[]) => Promise<void>;
