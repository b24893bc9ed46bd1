import { expect, test } from '@jest/globals';
import { ChunkBuffers } from './chunk-buffers.ts';

test('bytes are those that Buffer itself would make', () => {
  const buffers = new ChunkBuffers();
  buffers.give(buffers.from('what was there before'));
  for (const text of ['', 'plain', 'ü€😀', '\ud800', 'x'.repeat(200_000)]) expect(buffers.from(text)).toEqual(Buffer.from(text));
  const parts = ['{"items":', '[1]', '', '}'].map((part) => Buffer.from(part));
  expect(buffers.concat(parts)).toEqual(Buffer.concat(parts));
});

test('memory is used again when it has been given back, and by one at a time', () => {
  const buffers = new ChunkBuffers();
  const first = buffers.from('first');
  const second = buffers.from('second');
  expect(second.buffer).not.toBe(first.buffer);
  buffers.give(first);
  buffers.give(first);
  const third = buffers.from('third');
  const fourth = buffers.from('fourth');
  expect(third.buffer).toBe(first.buffer);
  expect(fourth.buffer).not.toBe(first.buffer);
  expect([second, third, fourth].map(String)).toEqual(['second', 'third', 'fourth']);
});

test('what does not come from there is left alone', () => {
  const buffers = new ChunkBuffers();
  const other = Buffer.from(new ArrayBuffer(128 * 1024));
  buffers.give(other);
  buffers.give(new ChunkBuffers().from('of another'));
  expect(buffers.from('mine').buffer).not.toBe(other.buffer);
});
