import { messageOf } from '@millrace/core';
import type { Database } from '@millrace/postgres';

/** What stands where, for a run that does not end. */
export async function diagnose(db: Database): Promise<string[]> {
  const ask = async (what: string, sql: string) =>
    `  ${what}: ${JSON.stringify((await db.query(sql).catch((error) => ({ rows: [messageOf(error)] }))).rows)}`;
  return [
    await ask(
      'open runs',
      `select run_id, state, sealed, owed, plan_epoch, (lease_until - now())::text as lease, next_seq, (now() - progress_at)::text as idle from planner.runs where state <> 'closed' limit 5`,
    ),
    await ask(
      'chunks',
      `select c.run_id, c.state, count(*), min(c.due_at - now())::text as due, max(c.emits) as emits, max(now() - c.emitted_at)::text as emitted
       from planner.chunks c join planner.runs r using (run_id) where r.state <> 'closed' group by 1, 2 limit 10`,
    ),
    await ask('ledger', `select run_id, state, generation, planned, applied from audit.runs where state <> 'closed' limit 5`),
    await ask(
      'sessions',
      `select application_name, state, wait_event_type, count(*), max(now() - state_change)::text as age from pg_stat_activity where backend_type = 'client backend' group by 1, 2, 3`,
    ),
  ];
}
