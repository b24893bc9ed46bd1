import { expect, test } from '@jest/globals';
import type { EventBroker, SubscribeOptions } from '@millrace/messaging';
import type { Platform } from '@millrace/runtime';
import { Audit } from './audit.ts';
import { auditDefaults } from './config.ts';
import type { LedgerStore } from './ledger-store.ts';

test('facts gather between folds, the less the sooner one of them may close a run', async () => {
  let awaited = Number.POSITIVE_INFINITY;
  const store: LedgerStore = {
    fold: async () => ({ gained: new Map(), awaited }),
    outbox: async () => [],
    clearOutbox: async () => undefined,
    standing: async () => [],
    purge: async () => 'done',
  };
  let linger: SubscribeOptions['linger'];
  const events = {
    system: 'memory',
    connected: () => true,
    subscribe: async (_: string, options: SubscribeOptions) => ((linger = options.linger), { drain: async () => undefined }),
  } as unknown as EventBroker;
  const time = {
    now: () => 0,
    sleep: (_: number, signal?: AbortSignal) => new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve())),
  };
  const audit = new Audit({ events, time } as unknown as Platform, auditDefaults, store);
  await audit.start();
  const afterFoldWith = async (chunks: number) => {
    awaited = chunks;
    await audit.fold([]);
    return typeof linger === 'function' ? linger() : linger;
  };
  expect(await afterFoldWith(Number.POSITIVE_INFINITY)).toBe(120);
  expect(await afterFoldWith(300)).toBe(120);
  expect(await afterFoldWith(20)).toBe(40);
  expect(await afterFoldWith(1)).toBe(2);
  expect(await afterFoldWith(Number.POSITIVE_INFINITY)).toBe(120);
  await audit.stop();
});
