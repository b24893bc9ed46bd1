-- The ledger: what became of every item of every run, folded from facts. Written by the audit only.
-- Rows grow with chunks and failures, not with items.
create schema if not exists audit;

create table audit.runs (
  run_id       text primary key,
  job          text not null,
  tick         text not null,
  nominal      timestamptz,
  cause        text not null,
  params       jsonb not null,
  manifest     jsonb not null,
  -- planning → running → closed; a redrive opens the run again
  state        text not null check (state in ('planning', 'running', 'closed')),
  verdict      text,
  generation   integer not null default 0,
  opened_at    timestamptz not null,
  planned_at   timestamptz,
  closed_at    timestamptz,
  plan_error   jsonb,
  -- Every item the source yielded, duplicates included. Sealed by the plan; before that, what is known so far.
  planned       bigint not null default 0,
  applied       bigint not null default 0,
  skipped       bigint not null default 0,
  duplicate     bigint not null default 0,
  failed        bigint not null default 0,
  rejected      bigint not null default 0,
  cancelled     bigint not null default 0,
  expired       bigint not null default 0,
  indeterminate bigint not null default 0,
  trace_id     text,
  updated_at   timestamptz not null
);
create index runs_newest on audit.runs (opened_at desc, run_id);
create index runs_open on audit.runs (opened_at) where state <> 'closed';
create index runs_by_job on audit.runs (job, opened_at desc);

-- One row per pass over a run: generation 0, then one per redrive. First-pass counts stay here.
create table audit.generations (
  run_id     text not null,
  generation integer not null,
  opened_at  timestamptz,
  planned_at timestamptz,
  chunks     integer,
  items      bigint,
  duplicates bigint not null default 0,
  replaced   jsonb,
  plan_failed boolean not null default false,
  -- Items of this generation whose outcome is final, as counts per outcome.
  final      jsonb not null default '{}',
  closed_at  timestamptz,
  verdict    text,
  counts     jsonb,
  primary key (run_id, generation)
);

create table audit.chunks (
  run_id     text not null,
  generation integer not null,
  seq        integer not null,
  size       integer not null,
  attempt    integer not null,
  outcomes   text not null,
  skips      jsonb not null,
  queued_ms  integer not null,
  process_ms integer not null,
  commit_ms  integer not null,
  settled_at timestamptz not null,
  primary key (run_id, generation, seq)
);

-- Items that failed and have not become good since. One row per item: the latest attempt of the latest generation.
create table audit.failures (
  run_id      text not null,
  seq         integer not null,
  position    integer not null,
  generation  integer not null,
  attempt     integer not null,
  key         text not null,
  fingerprint text not null,
  class       text not null,
  title       text not null,
  message     text not null,
  -- true once no further attempt is due
  final       boolean not null,
  at          timestamptz not null,
  primary key (run_id, seq, position)
);
create index failures_by_group on audit.failures (run_id, fingerprint, seq, position);

-- run.closed facts that the stream has not confirmed yet.
create table audit.outbox (
  id      text primary key,
  data    jsonb not null,
  at      timestamptz not null
);
