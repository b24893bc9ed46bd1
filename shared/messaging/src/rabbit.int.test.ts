import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { PARKED_QUEUE } from '@millrace/core';
import { startRabbit, waitFor } from '@millrace/testing';
import { messagingContract } from './contract.ts';
import { connectRabbit } from './rabbit.ts';

const queue = 'millrace.chunks.kept';

messagingContract('RabbitMQ', { queues: true, streams: false, counts: false, restart: true }, async () => {
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

describe('what a restart of RabbitMQ takes', () => {
  const restarted = async (queueType: 'classic' | 'quorum') => {
    const server = await startRabbit();
    try {
      const broker = await connectRabbit({ url: server.url, queueType });
      let lost = 0;
      const ensure = () => broker.ensure(queue, async () => lost++);
      await ensure();
      const message = { headers: {}, body: Buffer.from('1') };
      await broker.publish([queue, queue, PARKED_QUEUE].map((subject, index) => ({ ...message, id: `${index}`, subject })));
      // RabbitMQ 3.10 forgets a quorum queue when it is killed within half a second of declaring it.
      await delay(1_000);
      await server.restart();
      await waitFor(() => broker.connected());
      const before = (await broker.inspect(queue))?.ready;
      await ensure();
      await ensure();
      await waitFor(async () => (await broker.inspect(PARKED_QUEUE))?.ready === 1);
      const after = (await broker.inspect(queue))?.ready;
      await broker.close();
      return { lost: lost - 1, before, after };
    } finally {
      await server.stop();
    }
  };

  test('classic queues lose work, which is told; what is parked stays', async () => {
    expect(await restarted('classic')).toEqual({ lost: 1, before: undefined, after: 0 });
  }, 120_000);

  test('quorum queues lose nothing', async () => {
    expect(await restarted('quorum')).toEqual({ lost: 0, before: 2, after: 2 });
  }, 120_000);

  test('a queue of the other type is refused with MR3011, and nothing of it is lost', async () => {
    const server = await startRabbit();
    try {
      const [one, other] = [await connectRabbit({ url: server.url, queueType: 'quorum' }), await connectRabbit({ url: server.url })];
      await one.ensure(queue, async () => {});
      await expect(other.ensure(queue, async () => {})).rejects.toMatchObject({ code: 'MR3011', message: expect.stringContaining(queue) });
      expect(await one.inspect(queue)).toEqual({ ready: 0, consumers: 0 });
      await Promise.all([one.close(), other.close()]);
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
