import Type from 'typebox';
import { columns } from './columns.ts';
import { defineJob } from './define-job.ts';
import { postgres } from './postgres.ts';

/** What the compiler must accept and refuse. Checked by tsc; never run. */
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function expectType<Expected>(): <Actual>(actual: Actual, ...same: Equal<Actual, Expected> extends true ? [] : ['types differ']) => void;

interface City { id: number; name: string; tags?: string[]; at: { lat: number; lon: number } | null }
declare const cities: City[];

export const good = defineJob('good', { params: Type.Object({ limit: Type.Optional(Type.Number()) }), schedule: { cron: '* * * * *' } })
  .items(
    async function* ({ params, checkpoint, query }) {
      expectType<{ limit?: number }>()(params);
      const { rows } = await query<City>('select 1');
      for (const city of rows) yield city;
      yield checkpoint({ after: 7 });
    },
    { key: (city) => (expectType<City>()(city), city.id) },
  )
  .process(async (city, { skip, reject, params }) => {
    expectType<City>()(city);
    expectType<{ limit?: number }>()(params);
    if (city.id === 0) return skip('zero');
    if (city.id === 1) return reject('one');
    return { id: city.id, day: 'x' };
  })
  .commit(
    postgres((effects, tx) => {
      expectType<readonly { id: number; day: string }[]>()(effects);
      return tx.query('select', columns(effects, 'id', 'day'));
    }),
  );

export const plainFunctions = defineJob('good').items(() => cities, { key: (city) => city.id }).process((city) => city.id)
  .commit((effects, { effectIds }) => {
    expectType<readonly number[]>()(effects);
    expectType<readonly string[]>()(effectIds);
  });

export const standardSchema = defineJob('good', { params: { '~standard': { version: 1, vendor: 'x', validate: () => ({ value: { day: 'x' } }) } } })
  .items(({ params }) => [(expectType<{ day: string }>()(params), params.day)], { key: (day) => day });

const job = defineJob('bad');
// @ts-expect-error the key is missing
job.items(() => cities, {});
// @ts-expect-error the options are missing
job.items(() => cities);
// @ts-expect-error a key must be a string or a number
job.items(() => cities, { key: (city) => city.at });
// @ts-expect-error a Date comes back as a string
job.items(() => [{ id: 1, at: new Date(0) }], { key: (item) => item.id });
// @ts-expect-error a Date deep inside
job.items(async function* () { yield { id: 1, deep: [{ at: new Date(0) }] }; }, { key: (item) => item.id });
// @ts-expect-error a Map comes back empty
job.items(() => [{ id: 1, m: new Map<string, string>() }], { key: (item) => item.id });
// @ts-expect-error a function is lost
job.items(() => [{ id: 1, f: () => 1 }], { key: (item) => item.id });
// @ts-expect-error a bigint cannot be written
job.items(() => [{ id: 1n }], { key: () => 1 });
// @ts-expect-error undefined in a required field is lost
job.items((): { id: number; u: string | undefined }[] => [], { key: (item) => item.id });
// @ts-expect-error a symbol is lost
job.items(() => [{ id: 1, s: Symbol('x') }], { key: (item) => item.id });

const step = job.items(() => cities, { key: (city) => city.id });
// @ts-expect-error an effect with a Date
step.process((city) => ({ id: city.id, at: new Date(0) }));
// @ts-expect-error an effect with a Map, behind a promise
step.process(async (city) => ({ id: city.id, m: new Map() }));
// @ts-expect-error an effect with a bigint
step.process((city) => ({ id: BigInt(city.id) }));
// @ts-expect-error an effect with a function
step.process((city) => ({ id: city.id, f() {} }));
// @ts-expect-error nothing is no effect
step.process(() => {});
// @ts-expect-error a path that returns nothing
step.process((city) => (city.id > 1 ? { id: 1 } : undefined));
// @ts-expect-error items have no such field
step.process((city) => city.population);

const commit = step.process((city) => ({ id: city.id }));
// @ts-expect-error effects are read-only
commit.commit((effects) => effects.push({ id: 1 }));
// @ts-expect-error the sink wants more than the effects have
commit.commit(postgres((effects: readonly { id: number; name: string }[]) => effects.length));
// @ts-expect-error no such column
commit.commit(postgres((effects, tx) => tx.query('', columns(effects, 'name'))));

// @ts-expect-error unknown option
defineJob('bad', { rateLimit: '200/s' });
// @ts-expect-error no duration
defineJob('bad', { timeout: 'soon' });
// @ts-expect-error no such rule
defineJob('bad', { schedule: { cron: '* * * * *', overlap: 'never' } });
