import { columns, defineJob, postgres } from 'millrace';

const SETUP = `create table if not exists longest_days (
  country text not null, rank integer not null, city_id integer not null, name text not null, day date not null, day_length_s integer not null,
  primary key (country, day, rank)
)`;

const CLEAR = 'delete from longest_days where (country, day) in (select * from unnest($1::text[], $2::date[]))';

// One pass over the table for all countries of the batch.
const RANK = `insert into longest_days (country, rank, city_id, name, day, day_length_s)
  select country, rank, city_id, name, day, day_length_s
  from (
    select s.country, s.city_id, s.name, s.day, s.day_length_s,
      row_number() over (partition by s.country order by s.day_length_s desc, s.city_id)::integer as rank
    from sunrise s join unnest($1::text[], $2::date[]) as c (country, day) on s.country = c.country and s.day = c.day
  ) as ranked
  where rank <= 10`;

export const longestDays = defineJob('longest-days', {
  description: 'The ten cities with the longest day, per country',
  after: [{ job: 'sunrise-table' }],
})
  .items(
    async function* ({ query, tick }) {
      const day = tick.at.toISOString().slice(0, 10);
      const { rows } = await query<{ country: string }>('select distinct country from sunrise where day = $1 order by country', [day]);
      for (const { country } of rows) yield { country, day };
    },
    { key: (item) => item.country },
  )
  // The work is one statement over the batch: each effect only says which country to rank.
  .process((item) => item)
  .commit(
    postgres({ setup: SETUP }, async (effects, tx) => {
      const countries = columns(effects, 'country', 'day');
      await tx.query(CLEAR, countries);
      await tx.query(RANK, countries);
    }),
  );
