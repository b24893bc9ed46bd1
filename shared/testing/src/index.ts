export { ensureServers } from './ensure-servers.ts';
export { FakeTime } from './fake-time.ts';
export { freePort } from './free-port.ts';
export { type Guard, startGuard } from './guard.ts';
export { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from './otlp-receiver.ts';
export type { TestServer } from './server.ts';
export { type NatsOptions, type PostgresOptions, type RabbitOptions, startNats, startPostgres, startRabbit } from './start-servers.ts';
export { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';
export { type WaitOptions, waitFor } from './wait-for.ts';
