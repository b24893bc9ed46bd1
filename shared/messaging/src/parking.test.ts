import { expect, test } from '@jest/globals';
import { factSubject, redriveSubject, tickSubject, triggerSubject } from '@millrace/core';
import { consumerName } from './nats-consumer.ts';
import { matcherOf, parkedSubject, streamOf } from './parking.ts';

test('every subject of Millrace has one stream, others have none', () => {
  expect(streamOf(tickSubject('nightly', 1))?.name).toBe('MILLRACE_TICKS');
  expect(streamOf(triggerSubject('nightly'))?.name).toBe('MILLRACE_TRIGGERS');
  expect(streamOf(redriveSubject('nightly'))?.name).toBe('MILLRACE_TRIGGERS');
  expect(streamOf(factSubject('run.closed', 'nightly'))?.name).toBe('MILLRACE_FACTS');
  expect(streamOf(parkedSubject(tickSubject('nightly', 1)))?.name).toBe('MILLRACE_PARKED');
  expect(streamOf('millrace.ticks.>')?.name).toBe('MILLRACE_TICKS');
  expect(streamOf('millrace.chunks.nightly')).toBeUndefined();
});

test.each([
  ['millrace.facts.>', 'millrace.facts.run.closed.a', true],
  ['millrace.facts.>', 'millrace.facts', false],
  ['millrace.facts.*.closed.*', 'millrace.facts.run.closed.a', true],
  ['millrace.facts.*', 'millrace.facts.run.closed', false],
  ['millrace.facts.run', 'millraceXfacts.run', false],
])('filter %s against %s: %s', (filter, subject, expected) => {
  expect(matcherOf(filter)(subject)).toBe(expected);
});

test('a durable name has one consumer for each filter, named within what NATS allows', () => {
  expect(consumerName('planner', 'millrace.facts.chunk.settled.>')).toBe('planner__millrace_facts_chunk_settled_all');
  expect(consumerName('planner', 'millrace.facts.run.closed.>')).not.toBe(consumerName('planner', 'millrace.facts.chunk.settled.>'));
});
