import { expect, test } from '@jest/globals';
import { keysIn } from '@millrace/core';
import fc from 'fast-check';
import { type BuiltChunk, CHUNK_BYTES, ChunkBuilder } from './chunk-builder.ts';
import { KeySet } from './key-set.ts';

const keys = fc.array(fc.oneof(fc.string({ minLength: 1, maxLength: 6 }), fc.stringMatching(/^[ab]{1,3}$/)), { maxLength: 300 });

test('a KeySet knows what a Set knows, with the chunk of every key', () => {
  fc.assert(
    fc.property(keys, keys, (added, asked) => {
      const set = new KeySet(16);
      const model = new Map<string, number>();
      for (const [i, key] of added.entries()) {
        if (model.has(key)) continue;
        model.set(key, i >> 3);
        set.add(key, i >> 3, true);
      }
      expect(set.size).toBe(model.size);
      for (const key of [...added, ...asked]) {
        const seqs = set.candidates(key).map(({ seq }) => seq);
        const seq = model.get(key);
        // A collision may name a stranger's chunk as well; the caller compares the keys there.
        if (seq !== undefined) expect(seqs).toContain(seq);
        else for (const stranger of seqs) expect([...model.values()]).toContain(stranger);
      }
    }),
    { numRuns: 200 },
  );
});

/** Flat, deep and large items take different ways into a chunk. */
const shapes: ((text: string, reused: Record<string, unknown>) => unknown)[] = [
  (text) => text,
  (text) => ({ text, n: 1.5, yes: true, none: null }),
  (text) => ({ deep: { text }, list: [1, text] }),
  (text, reused) => Object.assign(reused, { text, size: text.length }),
];

test('chunks hold the items in order, each once, within the limits, numbered without gaps', () => {
  const items = fc.array(
    fc.record({
      key: fc.oneof(fc.string({ minLength: 1, maxLength: 5 }), fc.integer()),
      text: fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 60_000 })).map((size) => 'x'.repeat(size)),
      shape: fc.constantFrom(...shapes),
    }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(items, fc.integer({ min: 1, max: 9 }), fc.nat({ max: 5 }), (list, limit, first) => {
      const builder = new ChunkBuilder('job', first, () => limit);
      const chunks: BuiltChunk[] = [];
      // Sources may yield one object again and again.
      const reused: Record<string, unknown> = {};
      for (const { key, text, shape } of list) {
        const chunk = builder.add(key, shape(text, reused));
        if (chunk) chunks.push(chunk);
      }
      const last = builder.cut();
      if (last) chunks.push(last);
      expect(builder.cut()).toBeUndefined();
      expect(chunks.map(({ seq }) => seq)).toEqual(chunks.map((_, i) => first + i));
      expect(chunks.flatMap(({ payload }) => JSON.parse(payload.toString()) as unknown[])).toEqual(
        list.map(({ key, text, shape }) => [key, shape(text, {})]),
      );
      for (const chunk of chunks) {
        expect(chunk.size).toBeGreaterThan(0);
        expect(chunk.size).toBeLessThanOrEqual(limit);
        expect(keysIn(chunk.payload)).toHaveLength(chunk.size);
        // Only its last item may reach beyond the bytes that a chunk is to hold.
        const bytes = (JSON.parse(chunk.payload.toString()) as unknown[])
          .slice(0, -1)
          .reduce<number>((sum, item) => sum + JSON.stringify(item).length, 0);
        expect(bytes).toBeLessThan(CHUNK_BYTES);
      }
    }),
    { numRuns: 200 },
  );
});

test('a key that is a number is stored as one, and every key is read as the text that identifies it', () => {
  const numbers = fc.double({ noNaN: true, noDefaultInfinity: true });
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          numbers,
          fc.integer(),
          fc.string({ minLength: 1 }).filter((text) => !/[\0\p{Cs}]/u.test(text)),
        ),
        { minLength: 1, maxLength: 50 },
      ),
      (given) => {
        const builder = new ChunkBuilder('job', 0);
        for (const key of given) builder.add(key, null);
        const payload = builder.cut()?.payload ?? Buffer.of();
        expect((JSON.parse(payload.toString()) as [unknown, unknown][]).map(([key]) => typeof key)).toEqual(given.map((key) => typeof key));
        expect(keysIn(payload)).toEqual(given.map(String));
      },
    ),
  );
});
