-- As in the planner's schema: chunks, failures and generations of an old run go first, the run itself a day later.
alter table audit.runs add column purged_at timestamptz;
create index runs_ended on audit.runs (closed_at) where state = 'closed';
create index runs_purged on audit.runs (purged_at) where purged_at is not null;
