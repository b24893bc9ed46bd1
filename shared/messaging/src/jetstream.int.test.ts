import { describe, expect, test } from '@jest/globals';
import { startNats } from '@millrace/testing';
import { messagingContract } from './contract.ts';
import { connectJetStream } from './jetstream.ts';

messagingContract('JetStream', { queues: false, streams: true, counts: true, restart: true }, async () => {
  const server = await startNats();
  const broker = await connectJetStream({ url: server.url });
  return {
    broker,
    restart: () => server.restart(),
    wipe: () => server.reset(),
    close: async () => {
      await broker.close();
      await server.stop();
    },
  };
});

describe('the first connection to NATS', () => {
  test('says MR3005 and the address, never the password, where nobody listens', async () => {
    const error = await connectJetStream({
      url: 'nats://user:s3cret@127.0.0.1:1',
    }).catch((caught: unknown) => caught as Error);
    expect(error).toMatchObject({
      code: 'MR3005',
      message: expect.stringContaining('127.0.0.1:1'),
    });
    expect(String(error)).not.toContain('s3cret');
  });
});
