import { EventEmitter } from 'node:events';
import { expect, test } from '@jest/globals';
import type { Channel } from 'amqplib';
import { RabbitTopology } from './rabbit-topology.ts';

const queue = 'millrace.chunks.job';

/** RabbitMQ as far as a topology sees it: queues outlive a restart, what is in them does not. */
function broker() {
  const messages = new Map<string, number>();
  let channels: (EventEmitter & { closed: boolean })[] = [];
  const openChannel = async () => {
    const channel = Object.assign(new EventEmitter(), {
      closed: false,
      async checkQueue(name: string) {
        if (!messages.has(name)) throw Object.assign(new Error('NOT_FOUND'), { code: 404 });
        return { messageCount: messages.get(name), consumerCount: 0 };
      },
      async assertQueue(name: string) {
        messages.set(name, messages.get(name) ?? 0);
        return { messageCount: messages.get(name) };
      },
      sendToQueue(name: string) {
        if (channel.closed) throw new Error('Channel closed');
        messages.set(name, (messages.get(name) ?? 0) + 1);
      },
    });
    channels.push(channel);
    return channel as unknown as Channel;
  };
  const restart = () => {
    for (const name of messages.keys()) messages.set(name, 0);
    for (const channel of channels) {
      channel.closed = true;
      channel.emit('close');
    }
    channels = [];
  };
  return { openChannel, restart };
}

test('a broker that restarts while its loss is dealt with is not taken for sound: what was sent meanwhile may be lost again', async () => {
  const { openChannel, restart } = broker();
  const topology = new RabbitTopology(openChannel, 'classic');
  let lost = 0;
  const restarted = topology.ensure(queue, async () => {
    lost++;
    restart();
  });
  await expect(restarted).rejects.toMatchObject({ code: 'MR3003' });
  expect(await topology.inspect(queue)).toBeUndefined();
  await topology.ensure(queue, async () => lost++);
  await topology.ensure(queue, async () => lost++);
  expect(lost).toBe(2);
  expect(await topology.inspect(queue)).toEqual({ ready: 0, consumers: 0 });
});
