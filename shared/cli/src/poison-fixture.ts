import { defineJob, postgres } from 'millrace';

const ITEMS = 100_000;
const KILLERS = 10;
const grip: unknown[] = [];

interface Item {
  readonly n: number;
}

/** Of every tenth of the items one ends whatever process it is run in. */
function isPoisonous(n: number): boolean {
  return n % (ITEMS / KILLERS) === 4_321;
}

/** 3 exit, 3 abort, 2 let go of a rejection, 2 eat all memory. */
function poison(killer: number): Promise<Item> {
  switch (killer % 4) {
    case 0:
      return process.exit(3);
    case 1:
      return process.abort();
    case 2:
      void Promise.reject(new Error('nobody waits for this'));
      return new Promise(() => undefined);
    default:
      for (;;) grip.push(new Array(100_000).fill(grip.length));
  }
}

const INSERT = `insert into poison_applied select (e ->> 'n')::integer from json_array_elements($1::json) e`;

export const poisonous = defineJob('poisonous', { timeout: '5s', tolerate: { count: KILLERS } })
  .items(
    function* () {
      for (let n = 0; n < ITEMS; n++) yield { n };
    },
    { key: ({ n }) => n },
  )
  .process((item: Item) => (isPoisonous(item.n) ? poison(Math.floor(item.n / (ITEMS / KILLERS))) : item))
  .commit(
    // No unique key: an effect that is applied twice must show.
    postgres({ setup: 'create table if not exists poison_applied (n integer not null)' }, (effects, tx) =>
      tx.query(INSERT, [JSON.stringify(effects)]),
    ),
  );
