import type { Instant } from '@millrace/core';
import type { Queryable } from './database.ts';

/** The database's clock, in whole milliseconds: the one that all processes on it agree on, however far their own are off. */
export async function now(db: Queryable): Promise<Instant> {
  const { rows } = await db.query<{ now: number }>('select (extract(epoch from clock_timestamp()) * 1000)::float8 as now');
  return Math.floor(rows[0]?.now ?? 0);
}
