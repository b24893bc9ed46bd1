import { expect, test } from '@jest/globals';
import { Gather } from './gather.ts';

/** Calls that end when told. */
function held(most: number, atOnce = 1) {
  const calls: { inputs: readonly number[]; end: (error?: Error) => void }[] = [];
  const gather = new Gather<number, string>(
    most,
    atOnce,
    (inputs) =>
      new Promise((resolve, reject) => {
        calls.push({ inputs, end: (error) => (error ? reject(error) : resolve(inputs.map((input) => `<${input}>`))) });
      }),
  );
  return { gather, calls };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test('what comes at once goes together, and what comes meanwhile with the next, each with its own answer', async () => {
  const { gather, calls } = held(3);
  const answers = [1, 2].map((input) => gather.add(input));
  await Promise.resolve();
  expect(calls.map(({ inputs }) => inputs)).toEqual([[1, 2]]);
  answers.push(...[3, 4, 5, 6].map((input) => gather.add(input)));
  await turn();
  expect(calls).toHaveLength(1);
  calls[0]?.end();
  expect(await Promise.all(answers.slice(0, 2))).toEqual(['<1>', '<2>']);
  expect(calls[1]?.inputs).toEqual([3, 4, 5]);
  calls[1]?.end();
  expect(await Promise.all(answers.slice(2, 5))).toEqual(['<3>', '<4>', '<5>']);
  expect(calls[2]?.inputs).toEqual([6]);
  calls[2]?.end();
  expect(await answers[5]).toBe('<6>');
  await turn();
  void gather.add(7);
  await Promise.resolve();
  expect(calls[3]?.inputs).toEqual([7]);
});

test('a call that fails, fails for all that went with it, and for nobody else', async () => {
  const { gather, calls } = held(10);
  const first = gather.add(1);
  await turn();
  const answers = [2, 3].map((input) => gather.add(input));
  calls[0]?.end();
  await first;
  const late = gather.add(4);
  calls[1]?.end(new Error('away'));
  for (const answer of answers) await expect(answer).rejects.toThrow('away');
  await turn();
  expect(calls[2]?.inputs).toEqual([4]);
  calls[2]?.end();
  expect(await late).toBe('<4>');
});

test('where two calls may be under way, the second takes a full group only, and there is no third', async () => {
  const { gather, calls } = held(2, 2);
  const answers = [1, 2].map((input) => gather.add(input));
  await turn();
  answers.push(gather.add(3));
  await turn();
  expect(calls).toHaveLength(1);
  answers.push(gather.add(4), gather.add(5), gather.add(6));
  await turn();
  expect(calls.map(({ inputs }) => inputs)).toEqual([
    [1, 2],
    [3, 4],
  ]);
  calls[1]?.end();
  expect(await Promise.all(answers.slice(2, 4))).toEqual(['<3>', '<4>']);
  await turn();
  expect(calls[2]?.inputs).toEqual([5, 6]);
  answers.push(gather.add(7));
  calls[0]?.end();
  await turn();
  expect(calls).toHaveLength(3);
  calls[2]?.end();
  await turn();
  expect(calls[3]?.inputs).toEqual([7]);
  calls[3]?.end();
  expect(await Promise.all(answers)).toEqual([1, 2, 3, 4, 5, 6, 7].map((input) => `<${input}>`));
});
