import { ledgerStoreContract } from '../../services/audit/src/ledger-store.contract.ts';
import { planStoreContract } from '../../services/planner/src/plan-store.contract.ts';
import { memoryLedgerStore, memoryPlanStore } from './memory-stores.ts';

planStoreContract('memory', memoryPlanStore, memoryPlanStore, 3);
ledgerStoreContract('memory', memoryLedgerStore, memoryLedgerStore, 3);
