import { setTimeout as delay } from 'node:timers/promises';
import { messagingContract } from '../../shared/messaging/src/contract.ts';
import { SimEventBroker } from './event-broker.ts';
import { Mutants } from './mutants.ts';
import { Random } from './random.ts';
import { RealTime } from './real-time.ts';
import { SimWorkBroker } from './work-broker.ts';

/** How long a broker that is restarted is away. */
const AWAY = 200;

messagingContract('the simulated work broker', { queues: true, streams: false, counts: true, restart: true }, async () => {
  const world = new RealTime();
  const simulated = new SimWorkBroker(world.scheduler, new Random(4), world.faults, new Mutants());
  return {
    broker: simulated.connect(world.process),
    restart: async () => {
      simulated.block();
      simulated.restart();
      await delay(AWAY);
      simulated.unblock();
    },
    wipe: async () => simulated.wipe(),
    close: () => world.close(),
  };
});

messagingContract('the simulated event broker', { queues: false, streams: true, counts: true, restart: true }, async () => {
  const world = new RealTime();
  const simulated = new SimEventBroker(world.scheduler, new Random(4), world.faults);
  return {
    broker: simulated.connect(world.process),
    restart: async () => {
      simulated.goAway();
      await delay(AWAY);
      simulated.comeBack();
    },
    wipe: async () => simulated.wipe(),
    close: () => world.close(),
  };
});
