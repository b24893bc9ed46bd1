import { describe, expect, test } from '@jest/globals';
import { MillraceError } from '@millrace/core';
import { classifyError, isInfrastructure, isPoison, sqlStateOf } from './classify-error.ts';

const coded = (code: string, message = 'boom') => Object.assign(new Error(message), { code });

describe('classifyError', () => {
  test('an unknown error is transient, because trying again is the cheaper mistake', () => {
    expect(classifyError(new Error('503 Service Unavailable'))).toEqual({
      class: 'transient',
      message: '503 Service Unavailable',
      retryAfter: undefined,
    });
    expect(classifyError('just text')).toMatchObject({ class: 'transient', message: 'just text' });
    expect(classifyError(null).class).toBe('transient');
  });

  test('`transient: false` and PermanentError are permanent', () => {
    expect(classifyError(Object.assign(new Error('gone'), { transient: false })).class).toBe('permanent');
    expect(classifyError(Object.assign(new Error('gone'), { name: 'PermanentError' })).class).toBe('permanent');
    expect(classifyError(Object.assign(new Error('busy'), { transient: true })).class).toBe('transient');
  });

  test('a timeout has its own class, and a wrong effect is permanent', () => {
    expect(classifyError(new MillraceError('MR1014', '30 s')).class).toBe('timeout');
    expect(classifyError(new MillraceError('MR1008', 'undefined')).class).toBe('permanent');
  });

  test('retryAfter is taken over only when it is a usable number of milliseconds', () => {
    expect(classifyError(Object.assign(new Error('429'), { retryAfter: 1500.4 })).retryAfter).toBe(1500);
    for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY, '5'])
      expect(classifyError(Object.assign(new Error('429'), { retryAfter: bad })).retryAfter).toBeUndefined();
  });

  test('long messages are cut', () => {
    expect(classifyError(new Error('x'.repeat(10_000))).message).toHaveLength(500);
  });
});

test('lost connections, a full disk and MR3xxx are infrastructure; constraints and user errors are not', () => {
  for (const code of ['ECONNRESET', 'ECONNREFUSED', 'EPIPE', 'ETIMEDOUT', '08006', '53100', '57P01', '40001', '40P01', '25006'])
    expect(isInfrastructure(coded(code))).toBe(true);
  expect(isInfrastructure(new MillraceError('MR3001', 'x'))).toBe(true);
  expect(isInfrastructure(Object.assign(new Error('?'), { commitUnknown: true }))).toBe(true);
  expect(isInfrastructure(new Error('Connection terminated unexpectedly'))).toBe(true);
  for (const error of [coded('23505'), coded('22001'), coded('42P01'), new Error('x'), new MillraceError('MR1008', 'x'), undefined])
    expect(isInfrastructure(error)).toBe(false);
});

test('data, constraint and trigger errors are poison; a missing table is not', () => {
  for (const code of ['22003', '23505', '23514', 'P0001', '44000']) expect(isPoison(coded(code))).toBe(true);
  for (const code of ['42P01', '40001', 'EPIPE']) expect(isPoison(coded(code))).toBe(false);
  expect(sqlStateOf(coded('EPIPE'))).toBeUndefined();
});
