export { connectJetStream, type JetStreamOptions } from './jetstream.ts';
export type { Log } from './log.ts';
export { openMemoryBrokers } from './memory.ts';
export { REASON_HEADER } from './parking.ts';
export * from './ports.ts';
export { connectRabbit, type RabbitOptions } from './rabbit.ts';
