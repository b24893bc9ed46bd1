-- How far the inbox has been purged: the rows of runs opened before may be missing, so that nothing of such a run is
-- ever applied again, whatever the processors' own settings say.
create table if not exists millrace.inbox_fence (
  -- One row.
  id            boolean primary key default true check (id),
  purged_before timestamptz not null
);

-- Rows are added in the order of time: this costs next to nothing to keep, and spares a purge reading the whole table.
create index if not exists inbox_settled on millrace.inbox using brin (settled_at);
