import { expect, test } from '@jest/globals';
import type { ConsumeMessage } from 'amqplib';
import { RabbitAcks } from './rabbit-acks.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

function recorded() {
  const frames: string[] = [];
  const tagOf = (message: unknown) => (message as { fields: { deliveryTag: number } }).fields.deliveryTag;
  const acks = new RabbitAcks({
    ack: (message, upTo) => void frames.push(`ack ${upTo ? '<= ' : ''}${tagOf(message)}`),
    nack: (message) => void frames.push(`nack ${tagOf(message)}`),
  });
  const messages = Array.from({ length: 6 }, (_, i) => ({ fields: { deliveryTag: i + 1 } }) as ConsumeMessage);
  for (const message of messages) acks.opened(message);
  const at = (tag: number) => messages[tag - 1] as ConsumeMessage;
  return { frames, acks, at };
}

test('one frame acknowledges all up to the first open delivery, in whatever order they were settled', async () => {
  const { frames, acks, at } = recorded();
  for (const tag of [3, 1, 2, 5]) acks.ack(at(tag));
  expect(frames).toEqual([]);
  await turn();
  expect(frames).toEqual(['ack <= 3', 'ack 5']);
  acks.ack(at(4));
  acks.ack(at(6));
  await turn();
  expect(frames).toEqual(['ack <= 3', 'ack 5', 'ack <= 6']);
});

test('what is still open, or waits to be given back, is never acknowledged with others', async () => {
  const { frames, acks, at } = recorded();
  for (const tag of [2, 3, 4]) acks.ack(at(tag));
  await turn();
  expect(frames).toEqual(['ack 2', 'ack 3', 'ack 4']);
  acks.giveBack(at(1));
  acks.ack(at(5));
  await turn();
  expect(frames.slice(3)).toEqual(['nack 1', 'ack <= 5']);
});

test('what is flushed is not told twice', async () => {
  const { frames, acks, at } = recorded();
  acks.ack(at(1));
  acks.flush();
  await turn();
  expect(frames).toEqual(['ack <= 1']);
});
