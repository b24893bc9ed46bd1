import { messagingContract } from './contract.ts';
import { openMemoryBrokers } from './memory.ts';

messagingContract('the memory work broker', { queues: true, streams: false, restart: false }, async () => {
  const { work } = openMemoryBrokers();
  return { broker: work, close: () => work.close() };
});

messagingContract('the memory event broker', { queues: false, streams: true, restart: false }, async () => {
  const { events } = openMemoryBrokers();
  return { broker: events, close: () => events.close() };
});
