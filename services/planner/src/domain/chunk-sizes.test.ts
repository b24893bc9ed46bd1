import { expect, test } from '@jest/globals';
import { ChunkSizes } from './chunk-sizes.ts';

test('a job of which nothing is known, or that takes no time, gets the largest chunks', () => {
  const sizes = new ChunkSizes();
  expect(sizes.itemsFor('new', 64, 500)).toBe(500);
  sizes.learn('quick', 500, 0);
  expect(sizes.itemsFor('quick', 64, 500)).toBe(500);
  sizes.learn('cheap', 500, 5);
  expect(sizes.itemsFor('cheap', 64, 500)).toBe(500);
});

test('expensive items travel in chunks of about 100 ms of work', () => {
  const sizes = new ChunkSizes();
  sizes.learn('slow', 500, 5_000);
  expect(sizes.itemsFor('slow', 1, 500)).toBe(10);
  sizes.learn('glacial', 500, 500_000);
  expect(sizes.itemsFor('glacial', 1, 500)).toBe(1);
});

test('chunks stay large enough for as many items as may run at once', () => {
  const sizes = new ChunkSizes();
  sizes.learn('waiting', 500, 5_000);
  expect(sizes.itemsFor('waiting', 1_000, 500)).toBe(500);
  expect(sizes.itemsFor('waiting', 64, 500)).toBe(32);
});

test('a job that becomes slower or quicker is followed, but not for a single chunk', () => {
  const sizes = new ChunkSizes();
  for (let i = 0; i < 50; i++) sizes.learn('job', 100, 100);
  expect(sizes.itemsFor('job', 1, 500)).toBe(100);
  sizes.learn('job', 100, 1_000);
  expect(sizes.itemsFor('job', 1, 500)).toBeGreaterThan(30);
  for (let i = 0; i < 50; i++) sizes.learn('job', 10, 100);
  expect(sizes.itemsFor('job', 1, 500)).toBe(10);
});
