import { expect, test } from '@jest/globals';
import { ChunkSettled, KIND_HEADER, RunOpened, RunPlanFailed, RunPlanned } from '@millrace/core';
import type { Delivery, EventBroker, SubscribeOptions } from '@millrace/messaging';
import type { Platform } from '@millrace/runtime';
import { Audit } from './audit.ts';
import { auditDefaults } from './config.ts';
import type { LedgerStore } from './ledger-store.ts';

test('facts gather between folds, unless they may close a run', async () => {
  let awaited = Number.POSITIVE_INFINITY;
  const store: LedgerStore = {
    fold: async () => ({ gained: new Map(), awaited }),
    outbox: async () => [],
    clearOutbox: async () => undefined,
    standing: async () => [],
    purge: async () => 'done',
  };
  let enough: NonNullable<SubscribeOptions['enough']> = () => false;
  const events = {
    system: 'memory',
    connected: () => true,
    subscribe: async (_: string, options: SubscribeOptions) => {
      enough = options.enough ?? enough;
      return { drain: async () => undefined };
    },
  } as unknown as EventBroker;
  const time = {
    now: () => 0,
    sleep: (_: number, signal?: AbortSignal) => new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve())),
  };
  const audit = new Audit({ events, time } as unknown as Platform, auditDefaults, store);
  await audit.start();
  const settled = (count: number) => Array.from({ length: count }, () => factOf(ChunkSettled.kind));
  expect(enough(settled(500))).toBe(false);
  expect(enough([...settled(1), factOf(RunOpened.kind)])).toBe(false);
  expect(enough([...settled(1), factOf(RunPlanned.kind)])).toBe(true);
  expect(enough([factOf(RunPlanFailed.kind)])).toBe(true);
  awaited = 20;
  await audit.fold([]);
  expect(enough(settled(19))).toBe(false);
  expect(enough(settled(20))).toBe(true);
  awaited = Number.POSITIVE_INFINITY;
  await audit.fold([]);
  expect(enough(settled(20))).toBe(false);
  await audit.stop();
});

function factOf(kind: string): Delivery {
  return { id: '', subject: '', headers: { [KIND_HEADER]: kind }, body: new Uint8Array(), deliveries: 1 };
}
