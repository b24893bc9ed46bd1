-- First attempts and retries are claimed apart, so that a storm of retries cannot starve first attempts; each in its order.
drop index planner.chunks_due;
create index chunks_first on planner.chunks (run_id, generation, seq) where state = 'ready' and attempt = 1;
create index chunks_retry on planner.chunks (run_id, due_at) where state = 'ready' and attempt > 1;
-- How often the facts of a settled run were told again in vain: the pause grows with it.
alter table planner.runs add column told integer not null default 0;
