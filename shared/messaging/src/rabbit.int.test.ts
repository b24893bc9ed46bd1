import { describe, expect, test } from '@jest/globals';
import { startRabbit } from '@millrace/testing';
import { messagingContract } from './contract.ts';
import { connectRabbit } from './rabbit.ts';

messagingContract('RabbitMQ', { queues: true, streams: false, restart: true }, async () => {
  const server = await startRabbit();
  const broker = await connectRabbit({ url: server.url });
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

describe('the first connection to RabbitMQ', () => {
  test('says MR3003 and the address, never the password, where nobody listens', async () => {
    const error = await connectRabbit({
      url: 'amqp://user:s3cret@127.0.0.1:1',
    }).catch((caught: unknown) => caught as Error);
    expect(error).toMatchObject({
      code: 'MR3003',
      message: expect.stringContaining('127.0.0.1:1'),
    });
    expect(String(error)).not.toContain('s3cret');
  });

  test('says MR3004 for a wrong password', async () => {
    const server = await startRabbit();
    try {
      const url = new URL(server.url);
      url.username = 'nobody';
      url.password = 's3cret';
      const error = await connectRabbit({ url: url.href }).catch((caught: unknown) => caught as Error);
      expect(error).toMatchObject({
        code: 'MR3004',
        message: expect.stringContaining(url.host),
      });
      expect(String(error)).not.toContain('s3cret');
    } finally {
      await server.stop();
    }
  }, 120_000);
});

test('a broker that stands still does not hold up the good-bye', async () => {
  const server = await startRabbit();
  try {
    const broker = await connectRabbit({ url: server.url });
    await server.pause();
    await broker.close();
    await server.resume();
  } finally {
    await server.stop();
  }
}, 60_000);
