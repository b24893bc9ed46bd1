-- How often the source of a run has failed; takeovers after a crash do not count.
alter table planner.runs add column plan_failures integer not null default 0;
