-- The planner's truth: which ticks were decided, which runs exist, and every chunk with its items.
-- The ledger is the queue: RabbitMQ holds only a window of these chunks.
create schema if not exists planner;

create table planner.jobs (
  job          text primary key,
  revision     text not null,
  manifest     jsonb not null,
  -- Every nominal instant up to this one has its record in planner.ticks.
  last_nominal timestamptz not null
);

-- One record for every nominal tick; a stretch of missed ones shares a row (nominal … through).
create table planner.ticks (
  job      text not null,
  nominal  timestamptz not null,
  through  timestamptz not null,
  ticks    integer not null default 1,
  result   text not null check (result in ('ran', 'skipped', 'missed')),
  primary key (job, nominal)
);

create table planner.runs (
  run_id      text primary key,
  job         text not null,
  tick        text not null,
  nominal     timestamptz,
  cause       text not null check (cause in ('tick', 'trigger', 'after')),
  params      jsonb not null,
  item_limit  bigint,
  manifest    jsonb not null,
  -- waiting (behind an overlapping run) → opened → planning → running → closed
  state       text not null check (state in ('waiting', 'opened', 'planning', 'running', 'closed')),
  generation  integer not null default 0,
  opened_at   timestamptz not null,
  closed_at   timestamptz,
  verdict     text,
  -- Planning is fenced: who holds another epoch than this writes nothing.
  plan_epoch  integer not null default 0,
  lease_until timestamptz,
  cursor      jsonb,
  next_seq    integer not null default 0,
  items       bigint not null default 0,
  duplicates  bigint not null default 0,
  sealed      boolean not null default false,
  plan_error  jsonb,
  trace       jsonb not null default '{}',
  -- The last time a chunk of this run settled; a run without progress is looked at by the reconciler.
  progress_at timestamptz not null default now(),
  -- What this run has to tell: [{kind, data}], written in the transaction that made it true, kept to be told again.
  facts       jsonb not null default '[]',
  -- The stream has not confirmed all of them.
  owed        boolean not null default false
);
create index runs_unfinished on planner.runs (state, opened_at) where state <> 'closed';
create index runs_by_job on planner.runs (job, opened_at);
create index runs_owing on planner.runs (run_id) where owed;

-- Generation 0 holds the payload; a redrive adds a row per touched chunk that points at the same items.
create table planner.chunks (
  run_id     text not null,
  generation integer not null,
  seq        integer not null,
  job        text not null,
  size       integer not null,
  -- JSON array of [key, data]; null for redrives (they read generation 0).
  payload    text,
  -- ready → emitted → settled, or back to ready with a due time when items are to be tried again
  state      text not null default 'ready' check (state in ('ready', 'emitted', 'settled')),
  attempt    integer not null default 1,
  due_at     timestamptz not null default now(),
  emitted_at timestamptz,
  emits      integer not null default 0,
  -- Run-length item states as last settled; null while all are pending.
  outcomes   text,
  -- {position: fingerprint} of the failing items, for redrives by group
  failures   jsonb,
  primary key (run_id, generation, seq)
);
-- Payloads are written once and read once or never: no compression on the hot path.
alter table planner.chunks alter column payload set storage external;
create index chunks_due on planner.chunks (job, due_at) where state = 'ready';
create index chunks_emitted on planner.chunks (run_id, emitted_at) where state = 'emitted';
