import type { Database } from '@millrace/postgres';

/** How far each stage has come, in chunks. */
export interface Stand {
  /** Settled by processors. */
  readonly inbox: number;
  /** Settled in the planner's table. */
  readonly plan: number;
  /** Folded into the ledger. */
  readonly ledger: number;
  /** Chunks that still owe an outcome. */
  readonly open: number;
}

const STAND = `select
  (select coalesce(sum(attempt), 0) from millrace.inbox where job = 'chaos')::float8 as inbox,
  (select coalesce(sum(attempt), 0) from planner.chunks where job = 'chaos' and outcomes is not null)::float8 as plan,
  (select coalesce(sum(attempt), 0) from audit.chunks where run_id like 'chaos@%')::float8 as ledger,
  (select count(*) from planner.chunks where job = 'chaos' and state <> 'settled')::float8 as open`;

export class Progress {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async now(): Promise<Stand> {
    const { rows } = await this.#db.query<Stand>(STAND);
    return rows[0] as Stand;
  }
}

/** More than all processors hold at once: what passes beyond that was sent, worked on and told after the fault. */
const FRESH = 12;

/** Fresh work has passed every stage, from the plan to the ledger. */
export function flowOf(before: Stand, now: Stand): boolean {
  return Math.min(now.inbox - before.inbox, now.plan - before.plan, now.ledger - before.ledger) >= FRESH;
}
