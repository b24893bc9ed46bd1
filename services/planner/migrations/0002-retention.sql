-- Closed runs are kept for a time: their chunks are deleted first, then, a day later, the run itself. In between this tells
-- an audit that the books of the run are no longer complete.
alter table planner.runs add column purged_at timestamptz;
create index runs_ended on planner.runs (closed_at) where state = 'closed';
create index runs_purged on planner.runs (purged_at) where purged_at is not null;
