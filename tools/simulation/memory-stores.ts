import type { FactBatch, LedgerStore } from '../../services/audit/src/ledger-store.ts';
import type { PlanStore } from '../../services/planner/src/plan-store.ts';
import type { InboxRig } from '../../services/processor/src/inbox.contract.ts';
import { InboxTables, inboxOf } from './inbox-tables.ts';
import { LedgerTables } from './ledger-tables.ts';
import { Mutants } from './mutants.ts';
import { PlanTables } from './plan-tables.ts';
import type { RealTime } from './real-time.ts';

/** The simulated stores without a simulation around them: what the real adapters are compared with. No two calls share an instant. */
export function memoryPlanStore(): PlanStore {
  const tables = new PlanTables(clock(), new Mutants());
  return new Proxy({} as PlanStore, {
    get:
      (_, method: keyof PlanTables & string) =>
      async (...args: unknown[]) =>
        (tables[method] as (...args: unknown[]) => unknown).apply(tables, args),
  });
}

export function memoryLedgerStore(): LedgerStore {
  const tables = new LedgerTables(clock(), new Mutants());
  return {
    fold: async (batch: FactBatch) => {
      const change = tables.prepare(batch);
      tables.commit(change);
      return change;
    },
    outbox: async (limit) => tables.owed(limit),
    clearOutbox: async (ids) => tables.clear(ids),
    standing: async () => tables.standing(),
    purge: async () => 'done',
  };
}

function clock(): () => number {
  let now = Date.now();
  return () => ++now;
}

/** The inbox needs a process, as its transactions wait for one another: `world` is that. */
export function memoryInbox(world: RealTime): InboxRig {
  const tables = new InboxTables(() => Date.now(), new Mutants());
  return {
    inbox: inboxOf(tables, world.process, new Mutants()),
    purge: async (retention) => tables.purge(retention),
    effects: async (run) => [...tables.effects.keys()].flatMap((id) => (id.startsWith(`${run} `) ? [id.slice(run.length + 1)] : [])).sort(),
  };
}
