import { afterAll } from '@jest/globals';
import { ledgerStoreContract } from '../../services/audit/src/ledger-store.contract.ts';
import { planStoreContract } from '../../services/planner/src/plan-store.contract.ts';
import { inboxContract } from '../../services/processor/src/inbox.contract.ts';
import { memoryInbox, memoryLedgerStore, memoryPlanStore } from './memory-stores.ts';
import { RealTime } from './real-time.ts';

const world = new RealTime();
afterAll(() => world.close());

planStoreContract('memory', memoryPlanStore, memoryPlanStore, 3);
ledgerStoreContract('memory', memoryLedgerStore, memoryLedgerStore, 3);
const inbox = async () => memoryInbox(world);
inboxContract('memory', inbox, inbox, 3);
