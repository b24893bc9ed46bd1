import { expect, test } from '@jest/globals';
import { Gather } from './gather.ts';

/** Calls that end when told. */
function held(most: number) {
  const calls: { inputs: readonly number[]; end: (error?: Error) => void }[] = [];
  const gather = new Gather<number, string>(
    most,
    (inputs) =>
      new Promise((resolve, reject) => {
        calls.push({ inputs, end: (error) => (error ? reject(error) : resolve(inputs.map((input) => `<${input}>`))) });
      }),
  );
  return { gather, calls };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test('the first goes alone and at once, what comes meanwhile goes together, each with its own answer', async () => {
  const { gather, calls } = held(3);
  const answers = [1, 2, 3, 4, 5].map((input) => gather.add(input));
  expect(calls.map(({ inputs }) => inputs)).toEqual([[1]]);
  calls[0]?.end();
  expect(await answers[0]).toBe('<1>');
  expect(calls[1]?.inputs).toEqual([2, 3, 4]);
  calls[1]?.end();
  expect(await Promise.all(answers.slice(1, 4))).toEqual(['<2>', '<3>', '<4>']);
  expect(calls[2]?.inputs).toEqual([5]);
  calls[2]?.end();
  expect(await answers[4]).toBe('<5>');
  await turn();
  void gather.add(6);
  expect(calls[3]?.inputs).toEqual([6]);
});

test('a call that fails, fails for all that went with it, and for nobody else', async () => {
  const { gather, calls } = held(10);
  const answers = [1, 2, 3].map((input) => gather.add(input));
  calls[0]?.end();
  await answers[0];
  const late = gather.add(4);
  calls[1]?.end(new Error('away'));
  for (const answer of answers.slice(1)) await expect(answer).rejects.toThrow('away');
  await turn();
  expect(calls[2]?.inputs).toEqual([4]);
  calls[2]?.end();
  expect(await late).toBe('<4>');
});
