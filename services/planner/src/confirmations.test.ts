import { describe, expect, test } from '@jest/globals';
import { Confirmations } from './confirmations.ts';
import type { SentChunk } from './plan-store.ts';

const sent = (seq: number): SentChunk => ({ runId: 'r', generation: 0, seq, attempt: 1, emits: 1 });

describe('Confirmations', () => {
  test('tells of all at once, once', async () => {
    const told: number[][] = [];
    const confirmations = new Confirmations({ confirmChunks: async (chunks) => void told.push(chunks.map(({ seq }) => seq)) });
    confirmations.add([sent(0), sent(1)]);
    confirmations.add([sent(2)]);
    await confirmations.flush();
    await confirmations.flush();
    expect(told).toEqual([[0, 1, 2]]);
  });

  test('what could not be told is told the next time, before what came meanwhile', async () => {
    const told: number[] = [];
    let down = true;
    const confirmations = new Confirmations({
      async confirmChunks(chunks) {
        if (down) throw new Error('down');
        told.push(...chunks.map(({ seq }) => seq));
      },
    });
    for (let seq = 0; seq < 1_500; seq++) confirmations.add([sent(seq)]);
    await expect(confirmations.flush()).rejects.toThrow('down');
    confirmations.add([sent(1_500)]);
    down = false;
    await confirmations.flush();
    expect(told).toEqual(Array.from({ length: 1_501 }, (_, seq) => seq));
  });
});
