import { expect, test } from '@jest/globals';
import { Window } from './window.ts';

test('places are handed on in the order of asking, never more than there are', async () => {
  const window = new Window(2);
  const entered: string[] = [];
  const ask = (name: string) => window.enter().then(() => entered.push(name));
  await Promise.all([ask('a'), ask('b')]);
  const [c, d] = [ask('c'), ask('d')];
  await Promise.resolve();
  expect(entered).toEqual(['a', 'b']);
  window.leave();
  await c;
  expect(entered).toEqual(['a', 'b', 'c']);
  window.leave();
  await d;
  expect(entered).toEqual(['a', 'b', 'c', 'd']);
});

test('whoever gives up waiting loses no place for the others', async () => {
  const window = new Window(1);
  await window.enter();
  const giveUp = new AbortController();
  const impatient = window.enter(giveUp.signal);
  const patient = window.enter();
  giveUp.abort();
  expect(await impatient).toBe(false);
  window.leave();
  expect(await patient).toBe(true);
});
