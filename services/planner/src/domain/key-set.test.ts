import { describe, expect, test } from '@jest/globals';
import { KeySet } from './key-set.ts';

describe('KeySet', () => {
  test('finds the chunk of every key it was given, and of no other', () => {
    const keys = new KeySet(16);
    for (let i = 0; i < 20_000; i++) keys.add(`key-${i}`, Math.floor(i / 500), true);
    let strangers = 0;
    for (let i = 0; i < 20_000; i++) {
      expect(keys.candidates(`key-${i}`).map((c) => c.seq)).toContain(Math.floor(i / 500));
      strangers += keys.candidates(`other-${i}`).length;
    }
    expect(keys.size).toBe(20_000);
    expect(strangers).toBe(0);
  });

  test('tells a key stored by an earlier pass from one seen in this pass', () => {
    const keys = new KeySet();
    keys.add('a', 7, false);
    const [first] = keys.candidates('a');
    expect(first).toMatchObject({ seq: 7, seen: false });
    if (first) keys.markSeen(first);
    expect(keys.candidates('a')[0]).toMatchObject({ seq: 7, seen: true });
  });
});
