import { expect, test } from '@jest/globals';
import { openMemoryBrokers } from '@millrace/messaging';
import type { Logger } from '@millrace/runtime';
import { FakeTime } from '@millrace/testing';
import { wireClock } from './wiring.ts';

test('the root resolves, and is not ready before it is started', () => {
  const log: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
  const service = wireClock({ instance: 'test', time: new FakeTime(), log, events: openMemoryBrokers().events });
  expect([service.name, service.ready()]).toEqual(['clock', ['not started']]);
});
