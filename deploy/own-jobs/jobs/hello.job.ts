import { columns, defineJob, postgres } from 'millrace';

const SETUP = 'create table if not exists hello (id integer primary key, greeting text not null)';
const UPSERT = `insert into hello select * from unnest($1::integer[], $2::text[])
  on conflict (id) do update set greeting = excluded.greeting`;

export const hello = defineJob('hello', { description: 'A table of greetings' })
  .items(() => ['Ada', 'Grace', 'Barbara'].map((name, index) => ({ id: index + 1, name })), { key: (person) => person.id })
  .process((person) => ({ id: person.id, greeting: `Hello ${person.name}` }))
  .commit(postgres({ setup: SETUP }, (effects, tx) => tx.query(UPSERT, columns(effects, 'id', 'greeting'))));
