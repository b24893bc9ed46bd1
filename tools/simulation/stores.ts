import type { FactBatch, LedgerStore } from '../../services/audit/src/ledger-store.ts';
import type { PlanStore } from '../../services/planner/src/plan-store.ts';
import type { Phase } from './faults.ts';
import { type LedgerTables, runsOf } from './ledger-tables.ts';
import type { Locks } from './locks.ts';
import type { Mutants } from './mutants.ts';
import { PlanTables } from './plan-tables.ts';
import { lostConnection, type SimProcess } from './process.ts';

/** The planner's port over the network: each method is one request, as each is one transaction. */
export function planStoreOf(tables: PlanTables, process: SimProcess, mutants: Mutants): PlanStore {
  const deadlock = () =>
    process.surroundings.random.chance(0.3)
      ? Object.assign(new Error('simulated: deadlock detected'), { code: '40P01' })
      : lostConnection();
  const failure = (phase: Phase) => (phase === 'before' ? deadlock() : lostConnection());
  const methodOf = (method: keyof PlanTables & string) => {
    const point = `plan.${method}`;
    return (...args: unknown[]) =>
      process.call(
        point,
        () =>
          method === 'settleChunks' && mutants.on('retry-from-memory')
            ? retryFromMemory(tables, process, args[0] as Parameters<PlanTables['settleChunks']>[0])
            : (tables[method] as (...args: unknown[]) => unknown).apply(tables, args),
        failure,
        detailOf(args),
      );
  };
  return Object.fromEntries(PLAN_METHODS.map((method) => [method, methodOf(method)])) as unknown as PlanStore;
}

const PLAN_METHODS = Object.getOwnPropertyNames(PlanTables.prototype).filter((name) => name !== 'constructor') as (keyof PlanTables &
  string)[];

function detailOf([first]: readonly unknown[]): string {
  if (typeof first === 'string') return first;
  if (Array.isArray(first))
    return first
      .map((one) => (typeof one === 'object' && one ? `${one.runId}/${one.generation}/${one.seq}/${one.outcomes ?? ''}` : ''))
      .join(' ');
  if (typeof first === 'object' && first !== null)
    return String((first as { runId?: unknown; name?: unknown }).runId ?? (first as { name?: unknown }).name);
  return '';
}

/** The audit's port: a fold reads, thinks and writes under the locks of its runs, while others do the same with theirs. */
export function ledgerStoreOf(tables: LedgerTables, locks: Locks, process: SimProcess, mutants: Mutants): LedgerStore {
  const { scheduler, random } = process.surroundings;
  return {
    fold: (batch: FactBatch) =>
      process.call(
        'ledger.fold',
        async () => {
          const transaction = {};
          locks.releaseWith(process, transaction);
          try {
            if (!mutants.on('fold-without-lock')) for (const runId of runsOf(batch)) await locks.take(`run ${runId}`, transaction);
            const change = tables.prepare(batch);
            if (!process.alive) return change;
            await new Promise<void>((resolve) => scheduler.after(random.next() * 3, resolve));
            if (process.alive) tables.commit(change);
            return change;
          } finally {
            locks.release(transaction);
          }
        },
        (phase) =>
          phase === 'before' && random.chance(0.3)
            ? Object.assign(new Error('simulated: could not serialize'), { code: '40001' })
            : lostConnection(),
        batch.settled.map((fact) => `${fact.runId}/${fact.generation}/${fact.seq}:${fact.attempt}:${fact.outcomes}`).join(' '),
      ),
    purge: () => Promise.reject(new Error('the simulated audit keeps everything')),
    standing: () => process.call('ledger.standing', () => tables.standing()),
    outbox: (limit) => process.call('ledger.outbox', () => tables.owed(limit)),
    clearOutbox: (ids) => process.call('ledger.clearOutbox', () => tables.clear(ids), lostConnection, ids.join(' ')),
  };
}

/** A planted bug: the row says that the chunk is done, and only this process knows better. */
function retryFromMemory(tables: PlanTables, process: SimProcess, facts: Parameters<PlanTables['settleChunks']>[0]): void {
  tables.settleChunks(facts.map((fact) => ({ ...fact, next: undefined })));
  for (const fact of facts) if (fact.next) void process.time.sleep(fact.next.in).then(() => tables.revive(fact));
}
