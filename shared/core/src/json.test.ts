import { expect, test } from '@jest/globals';
import { whyNotJson } from './json.ts';

class Money {}

test.each([
  ['plain', { a: [1, 'x', null, { b: true, c: undefined }], d: Object.create(null) }, undefined],
  ['a date', new Date(0), 'the value is a Date'],
  ['nothing', undefined, 'the value is undefined'],
  ['a field', { at: { first: new Date(0) } }, '.at.first is a Date'],
  ['an element', { rates: [1, { rate: Number.NaN }] }, '.rates[1].rate is NaN'],
  ['an instance', [new Money()], '[0] is a Money'],
  ['a function', { run: () => 1 }, '.run is a function'],
  ['a hole', [1, undefined], '[1] is undefined'],
])('%s', (_, value, why) => {
  expect(whyNotJson(value)).toBe(why);
});

test('what is nested too deeply is refused, a circle included', () => {
  const circle: { next?: object } = {};
  circle.next = circle;
  expect(whyNotJson(circle)).toMatch(/^(\.next){65} is nested deeper than 64 levels$/);
});
