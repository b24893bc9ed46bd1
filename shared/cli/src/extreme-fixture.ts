import { createHash } from 'node:crypto';
import { columns, defineJob, postgres, TransientError } from 'millrace';
import Type from 'typebox';

/** What the JSON of one item, its key included, may have: MILLRACE_PLANNER_LARGEST_ITEM. */
const LARGEST = 16 * 1024 * 1024;
const KIB = 1024;

interface Item {
  readonly n: number;
  readonly text: string;
}

/** An item of exactly `bytes`, small ones between them; the letters differ, so that no two are mistaken for each other. */
function itemOf(n: number, bytes: number): Item {
  const frame = JSON.stringify([String(n), { n, text: '' }]).length;
  return { n, text: String.fromCharCode(97 + (n % 26)).repeat(bytes - frame) };
}

/** As big as items may be, just above and just below what travels with its chunk, and small ones beside them. */
export const SIZES: readonly number[] = Array.from({ length: 60 }, (_, n) =>
  n % 10 === 3 ? LARGEST : n % 10 === 5 ? 353 * KIB : n % 10 === 7 ? 255 * KIB : 100,
);

export const digestOf = (text: string) => createHash('sha1').update(text).digest('hex');

/** One row per item: its digest, and of a few the whole text, so that effects are as big as items. */
export const huge = defineJob('huge', { retry: { attempts: 2, base: '10ms' } })
  .items(
    function* () {
      for (const [n, bytes] of SIZES.entries()) yield itemOf(n, bytes);
    },
    { key: ({ n }: Item) => n },
  )
  .process(({ n, text }, { attempt }) => {
    if (n % 20 === 3 && attempt === 1) throw new TransientError('not yet');
    return { n, digest: digestOf(text), text: n % 20 === 3 ? text : '' };
  })
  .commit(
    postgres(
      { setup: 'create table if not exists huge_applied (n integer not null, digest text not null, text text not null)' },
      (effects, tx) =>
        tx.query(
          `insert into huge_applied select * from unnest($1::integer[], $2::text[], $3::text[])`,
          columns(effects, 'n', 'digest', 'text'),
        ),
    ),
  );

/** Every 250th item computes for so long that its process does nothing else meanwhile. */
export const hog = defineJob('hog', { timeout: '60s', params: Type.Object({ items: Type.Integer(), busy: Type.Integer() }) })
  .items(
    function* ({ params }) {
      for (let n = 0; n < params.items; n++) yield { n };
    },
    { key: ({ n }: { n: number }) => n },
  )
  .process(({ n }, { params, tick }) => {
    if (n % 250 === 125) for (const end = performance.now() + params.busy; performance.now() < end; );
    return { run: tick.id, n };
  })
  .commit(
    postgres({ setup: 'create table if not exists hog_applied (run text not null, n integer not null)' }, (effects, tx) =>
      tx.query('insert into hog_applied select * from unnest($1::text[], $2::integer[])', columns(effects, 'run', 'n')),
    ),
  );
