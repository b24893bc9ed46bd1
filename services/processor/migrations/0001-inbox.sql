-- Lives in the database of the sink and is written in the transaction of the effects: the truth about each chunk.
create schema if not exists millrace;

create table if not exists millrace.inbox (
  run_id      text not null,
  generation  integer not null,
  seq         integer not null,
  job         text not null,
  size        integer not null,
  -- The last attempt whose results this row holds.
  attempt     integer not null,
  -- Run-length item states, for example 120a3s377a.
  outcomes    text not null,
  failures    jsonb not null,
  skips       jsonb not null,
  retry_after integer,
  queued_ms   integer not null,
  process_ms  integer not null,
  commit_ms   integer not null,
  settled_at  timestamptz not null default now(),
  primary key (run_id, generation, seq)
);
