-- A role per service that uses the database, with no more than its work needs. Run after every migration: psql -f roles.sql
\set ON_ERROR_STOP on
\set planner `cat /secrets/planner`
\set processor `cat /secrets/processor`
\set audit `cat /secrets/audit`
\set console `cat /secrets/console`

select format('create role %I login', name)
  from unnest(array['millrace_planner', 'millrace_processor', 'millrace_audit', 'millrace_console']) name
  where to_regrole(name) is null
\gexec
alter role millrace_planner password :'planner';
alter role millrace_processor password :'processor';
alter role millrace_audit password :'audit';
alter role millrace_console password :'console';

select format('revoke all on database %I from public', current_database()) \gexec
select format('grant connect, temporary on database %I to millrace_planner, millrace_processor, millrace_audit, millrace_console', current_database()) \gexec

-- Everybody can see which migrations were applied.
grant usage on schema millrace to millrace_planner, millrace_processor, millrace_audit, millrace_console;
grant select on millrace.migrations to millrace_planner, millrace_processor, millrace_audit;

-- Each its own books.
grant usage on schema planner to millrace_planner;
grant select, insert, update, delete on all tables in schema planner to millrace_planner;
grant usage on all sequences in schema planner to millrace_planner;
grant usage on schema audit to millrace_audit;
grant select, insert, update, delete on all tables in schema audit to millrace_audit;
grant usage on all sequences in schema audit to millrace_audit;
grant select, insert, update, delete on all tables in schema millrace to millrace_processor;
revoke insert, update, delete on millrace.migrations from millrace_processor;
grant usage on all sequences in schema millrace to millrace_processor;

-- Items too big to travel are fetched from the plan by their processors, who see nothing else of it.
grant usage on schema planner to millrace_processor;
grant select (run_id, generation, seq, payload) on planner.chunks to millrace_processor;

-- The console reads all of them and writes nothing.
grant usage on schema planner, audit to millrace_console;
grant select on all tables in schema planner, audit, millrace to millrace_console;

-- The tables of jobs: made and written by processors, read by item sources in planners.
grant usage, create on schema public to millrace_processor;
grant usage on schema public to millrace_planner;
grant select on all tables in schema public to millrace_planner;
alter default privileges for role millrace_processor in schema public grant select on tables to millrace_planner;
