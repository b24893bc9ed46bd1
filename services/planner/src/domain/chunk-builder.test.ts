import { describe, expect, test } from '@jest/globals';
import { CHUNK_BYTES, CHUNK_ITEMS, ChunkBuilder, checkKey } from './chunk-builder.ts';

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

  test('stores an object as it was when it came, though its source may change it later', () => {
    const builder = new ChunkBuilder('j', 0);
    const flat = { n: 1 };
    const deep = { list: [1] };
    builder.add('flat', flat);
    builder.add('deep', deep);
    flat.n = 2;
    deep.list.push(2);
    builder.add('again', flat);
    expect(JSON.parse(String(builder.cut()?.payload))).toEqual([
      ['flat', { n: 1 }],
      ['deep', { list: [1] }],
      ['again', { n: 2 }],
    ]);
  });

  test('texts that grow in JSON make a larger chunk, and nothing of it is lost', () => {
    const builder = new ChunkBuilder('j', 0);
    const text = '\u0001"'.repeat(300);
    let chunk = builder.add(0, { text });
    for (let key = 1; !chunk; key++) chunk = builder.add(key, { text });
    expect(chunk.payload.length).toBeGreaterThan(2 * CHUNK_BYTES);
    expect(JSON.parse(String(chunk.payload))).toEqual(Array.from({ length: chunk.size }, (_, key) => [key, { text }]));
  });

  test('the largest item is measured in bytes, however small its texts look', () => {
    const builder = new ChunkBuilder('j', 0, undefined, 1_000);
    for (const data of [{ text: '\u0001'.repeat(180) }, { text: '€'.repeat(340) }])
      expect(() => builder.add('k', data)).toThrow(expect.objectContaining({ code: 'MR1007' }));
    expect(builder.size).toBe(0);
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
    for (const good of ['a', 7]) expect(() => checkKey(good, 'j', 0)).not.toThrow();
    for (const bad of ['', undefined, null, Number.NaN, {}, 'x'.repeat(2_000), 'nul\0', 'half \ud800']) {
      expect(() => checkKey(bad, 'j', 4)).toThrow(expect.objectContaining({ code: 'MR1005' }));
    }
  });
});
