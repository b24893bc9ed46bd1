import { defineJob } from 'millrace';

/** Synthetic: a million small items, to see what planning costs. */
export const million = defineJob('million', { description: 'A million synthetic items' })
  .items(
    function* () {
      for (let id = 0; id < 1_000_000; id++) yield { id, name: `item ${id}`, amount: (id * 7919) % 100_003 };
    },
    { key: (item) => item.id },
  )
  .process((item) => ({ id: item.id, amount: item.amount * 2 }))
  .commit(() => {});
