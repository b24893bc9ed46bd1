import type { TestServer } from '@millrace/testing';
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import { connect } from 'nats';

/** A connection for one purpose. Rejects when the server or its JetStream is away. */
export async function withJetStream<T>(nats: TestServer, use: (manager: JetStreamManager) => Promise<T>): Promise<T> {
  const connection = await connect({ servers: new URL(nats.url).host, reconnect: false, timeout: 2_000 });
  try {
    return await use(await jetstreamManager(connection));
  } finally {
    await connection.close();
  }
}
