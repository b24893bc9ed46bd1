import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { countStates, decodeStates, encodeStates, type ItemState, mergeStates, noCounts, sumCounts, verdictOf } from './outcomes.ts';

const states = (size: number) =>
  fc.array(fc.constantFrom<ItemState>('-', 'p', 'f', 'c', 'e', 'i', 'x', 'r', 's', 'd', 'a'), { minLength: size, maxLength: size });
const SIZE = 40;

describe('item states', () => {
  test('a healthy chunk of 500 is four characters', () => {
    expect(encodeStates(new Array<ItemState>(500).fill('a'))).toBe('500a');
  });

  test('encode and decode are inverse', () => {
    fc.assert(fc.property(states(SIZE), (list) => expect(decodeStates(encodeStates(list), SIZE)).toEqual(list)));
  });

  test('merging is commutative, associative and idempotent', () => {
    const text = states(SIZE).map(encodeStates);
    fc.assert(
      fc.property(text, text, text, (a, b, c) => {
        expect(mergeStates(a, b, SIZE)).toBe(mergeStates(b, a, SIZE));
        expect(mergeStates(mergeStates(a, b, SIZE), c, SIZE)).toBe(mergeStates(a, mergeStates(b, c, SIZE), SIZE));
        expect(mergeStates(a, a, SIZE)).toBe(a);
      }),
    );
  });

  test('every item is counted once: as an outcome, as open, or as not part of the generation', () => {
    fc.assert(
      fc.property(states(SIZE), (list) => {
        const { counts, open } = countStates(encodeStates(list));
        expect(sumCounts(counts) + open + list.filter((state) => state === '-').length).toBe(SIZE);
      }),
    );
  });

  test('decoding never throws, and refuses what does not describe the chunk', () => {
    fc.assert(fc.property(fc.string(), (text) => void decodeStates(text, SIZE)));
    for (const bad of ['39a', '41a', '40', 'a', '40q', '20a20', '0a40a', '-1a']) expect(decodeStates(bad, SIZE)).toBeUndefined();
  });
});

describe('verdict', () => {
  const none = { count: 0, percent: 0 };
  test('without failures a run succeeded', () => {
    expect(verdictOf({ ...noCounts(), applied: 3, skipped: 1 }, none, false)).toBe('succeeded');
  });
  test('one failure is too many by default, and partial within either tolerance', () => {
    const counts = { ...noCounts(), applied: 98, failed: 1, rejected: 1 };
    expect(verdictOf(counts, none, false)).toBe('failed');
    expect(verdictOf(counts, { count: 2, percent: 0 }, false)).toBe('partial');
    expect(verdictOf(counts, { count: 0, percent: 2 }, false)).toBe('partial');
    expect(verdictOf(counts, { count: 1, percent: 1.9 }, false)).toBe('failed');
  });
  test('a failed plan fails the run whatever its items did', () => {
    expect(verdictOf({ ...noCounts(), applied: 5 }, { count: 9, percent: 99 }, true)).toBe('failed');
  });
});
