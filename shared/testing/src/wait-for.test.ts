import { expect, test } from '@jest/globals';
import { waitFor } from './wait-for.ts';

test('the awaited value is returned as soon as it is there, and errors before that do not matter', async () => {
  let looks = 0;
  const value = await waitFor(
    () => {
      looks += 1;
      if (looks === 1) throw new Error('not yet');
      return looks === 3 ? 'here' : undefined;
    },
    { interval: 1 },
  );
  expect([value, looks]).toEqual(['here', 3]);
});

test('giving up says what was awaited and what was seen last', async () => {
  await expect(waitFor(() => 0, { timeout: 5, interval: 1, what: 'the run to close' })).rejects.toThrow(
    'waited 5 ms in vain for: the run to close (last value: 0)',
  );
  const fails = () => Promise.reject(new Error('connection refused'));
  await expect(waitFor(fails, { timeout: 5, interval: 1 })).rejects.toThrow('connection refused');
});
