import type { Chunk } from '@millrace/core';
import type { Queryable } from '@millrace/postgres';
import type { Payloads } from '../payloads.ts';

/**
 * Reads items where the planner has stored them: the one place where a processor looks into the books of another service, and it only reads
 * (docs/adr/0009). Generation 0 holds the items of all generations.
 */
export class PlanPayloads implements Payloads {
  readonly #db: Queryable;

  constructor(db: Queryable) {
    this.#db = db;
  }

  async load({ runId, seq }: Chunk): Promise<Chunk['items'] | undefined> {
    const { rows } = await this.#db.query<{ payload: string | null }>(
      'select payload from planner.chunks where run_id = $1 and generation = 0 and seq = $2',
      [runId, seq],
    );
    const payload = rows[0]?.payload;
    return payload ? (JSON.parse(payload) as Chunk['items']) : undefined;
  }
}
