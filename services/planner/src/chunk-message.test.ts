import { expect, test } from '@jest/globals';
import { Chunk } from '@millrace/core';
import { encodeChunk } from './chunk-message.ts';
import type { DueChunk } from './plan-store.ts';

const due: DueChunk = {
  runId: 'j@t',
  job: 'j',
  tick: 't',
  generation: 0,
  seq: 2,
  size: 3,
  attempt: 1,
  emits: 1,
  nominal: null,
  openedAt: 5,
  params: {},
  outcomes: null,
  payload: '[["a",{"n":0}],["b",{"n":1}],["c",{"n":2}]]',
  trace: {},
};

function sent(chunk: DueChunk): Chunk {
  const read = Chunk.read(encodeChunk(chunk, 7));
  if (!read.ok) throw new Error(read.reason);
  return read.message.data;
}

test('the stored items travel as they are; after the first attempt only those that are open', () => {
  expect(sent(due)).toMatchObject({
    size: 3,
    items: [
      ['a', { n: 0 }],
      ['b', { n: 1 }],
      ['c', { n: 2 }],
    ],
  });
  expect(sent({ ...due, attempt: 2, outcomes: '1f1a1p' })).toMatchObject({
    positions: [0, 2],
    items: [
      ['a', { n: 0 }],
      ['c', { n: 2 }],
    ],
  });
});

test('how often an attempt was sent travels from the second time on', () => {
  expect(sent(due)).not.toHaveProperty('emits');
  expect(sent({ ...due, emits: 2 })).toMatchObject({ emits: 2 });
});

test.each([
  ['was left in the database', null],
  ['is in memory', JSON.stringify([['a', 'x'.repeat(400_000)]])],
])('a payload that is too big to travel and %s is claimed', (_, payload) => {
  expect(sent({ ...due, payload })).toMatchObject({ claim: true, items: [] });
  expect(sent({ ...due, payload, outcomes: '1f1a1p' })).toMatchObject({ claim: true, items: [], positions: [0, 2] });
});
