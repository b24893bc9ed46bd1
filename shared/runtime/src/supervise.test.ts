import { EventEmitter } from 'node:events';
import { expect, test } from '@jest/globals';
import { FakeTime } from '@millrace/testing';
import type { Logger, Service } from './platform.ts';
import { type Supervised, supervise } from './supervise.ts';

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function setUp(over: (diary: string[]) => Partial<Service> = () => ({})) {
  const diary: string[] = [];
  const make = (name: string, more: Partial<Service> = {}): Service => ({
    name,
    start: async () => void diary.push(`start ${name}`),
    stop: async (grace) => void diary.push(`stop ${name} ${grace}`),
    ready: () => [],
    ...more,
  });
  const signals = new EventEmitter();
  const time = new FakeTime();
  const supervised: Supervised = {
    services: [make('a'), make('b', over(diary))],
    time,
    log: quiet,
    grace: 1_000,
    signals,
    exit: (code) => diary.push(`exit ${code}`),
    started: () => diary.push('started'),
  };
  return { diary, signals, time, supervision: supervise(supervised) };
}

test('services start in order, and a signal stops them in reverse order with their grace', async () => {
  const { diary, signals, supervision } = setUp();
  expect(supervision.ready()).toEqual(['starting']);
  await turn();
  expect(supervision.ready()).toEqual([]);
  signals.emit('SIGTERM');
  expect(supervision.ready()).toEqual(['stopping']);
  expect(await supervision.ended).toBe(true);
  expect(diary).toEqual(['start a', 'start b', 'started', 'stop b 1000', 'stop a 1000']);
  expect(signals.listenerCount('SIGTERM')).toBe(0);
});

test('a start that fails stops what was started and is thrown', async () => {
  const { diary, supervision } = setUp(() => ({ start: () => Promise.reject(new Error('no luck')) }));
  await expect(supervision.ended).rejects.toThrow('no luck');
  expect(diary).toEqual(['start a', 'stop b 1000', 'stop a 1000']);
});

test('a signal does not wait for a start that hangs', async () => {
  const { diary, signals, supervision } = setUp(() => ({ start: () => new Promise(() => {}) }));
  await turn();
  signals.emit('SIGINT');
  expect(await supervision.ended).toBe(true);
  expect(diary).not.toContain('started');
});

test('a second signal leaves at once', async () => {
  const { diary, signals } = setUp(() => ({ stop: () => new Promise(() => {}) }));
  await turn();
  signals.emit('SIGTERM');
  expect(diary).not.toContain('exit 1');
  signals.emit('SIGTERM');
  expect(diary).toContain('exit 1');
});

test('a service that does not stop within its grace is given up, and one that fails to stop does not keep the others from it', async () => {
  const hanging = setUp(() => ({ stop: () => new Promise(() => {}) }));
  hanging.supervision.end();
  await turn();
  await hanging.time.advance(6_000);
  expect(await hanging.supervision.ended).toBe(false);

  const failing = setUp(() => ({ stop: () => Promise.reject(new Error('stuck')) }));
  failing.supervision.end();
  expect(await failing.supervision.ended).toBe(false);
  expect(failing.diary).toContain('stop a 1000');
});
