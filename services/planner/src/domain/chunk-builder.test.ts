import { describe, expect, test } from '@jest/globals';
import { CHUNK_ITEMS, ChunkBuilder, keyText } from './chunk-builder.ts';

describe('ChunkBuilder', () => {
  test('cuts by count and numbers chunks from where it was told', () => {
    const builder = new ChunkBuilder('j', 3);
    const cut = Array.from({ length: CHUNK_ITEMS + 1 }, (_, i) => builder.add(`k${i}`, { i })).filter((chunk) => chunk !== undefined);
    expect(cut.map((chunk) => [chunk.seq, chunk.size])).toEqual([[3, CHUNK_ITEMS]]);
    expect(JSON.parse(String(builder.cut()?.payload))).toEqual([[`k${CHUNK_ITEMS}`, { i: CHUNK_ITEMS }]]);
    expect(builder.cut()).toBeUndefined();
  });

  test('cuts by bytes', () => {
    const builder = new ChunkBuilder('j', 0);
    expect(builder.add('a', 'x'.repeat(110_000))).toBeUndefined();
    expect(builder.add('b', 'x'.repeat(10_000))?.size).toBe(2);
  });

  test.each([
    [{ at: new Date(0) }, 'MR1006', '.at is a Date'],
    [{ n: Number.NaN }, 'MR1006', '.n is NaN'],
    [[1n], 'MR1006', '[0] is a bigint'],
    ['x'.repeat(17 * 1024 * 1024), 'MR1007', '17409 KiB; at most 16384 KiB'],
  ])('refuses %#: an item that would not arrive as it was', (data, code, detail) => {
    expect(() => new ChunkBuilder('j', 0).add('k', data)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(detail) }),
    );
  });

  test('keys are non-empty strings or finite numbers', () => {
    expect([keyText('a', 'j', 0), keyText(7, 'j', 0)]).toEqual(['a', '7']);
    for (const bad of ['', undefined, null, Number.NaN, {}, 'x'.repeat(2_000), 'nul\0', 'half \ud800']) {
      expect(() => keyText(bad, 'j', 4)).toThrow(expect.objectContaining({ code: 'MR1005' }));
    }
  });
});
