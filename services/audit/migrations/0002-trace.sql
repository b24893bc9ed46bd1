-- W3C context of the run's `admit` span: what the ledger does with the run goes on from there, and people find its trace.
alter table audit.runs drop column trace_id;
alter table audit.runs add column trace jsonb not null default '{}';
alter table audit.outbox add column trace jsonb not null default '{}';
