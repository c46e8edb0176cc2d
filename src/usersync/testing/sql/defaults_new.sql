-- What was taken away on 2026-05-30 for new projects, and on 2026-10-30 for the others; run after
-- defaults_old.sql, as on the platform. Two things remain, and are traps: TRUNCATE, REFERENCES and TRIGGER on
-- tables, and EXECUTE on functions through PUBLIC (facts 1.3).

alter default privileges for role postgres in schema public
  revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke usage, select on sequences from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke execute on functions from anon, authenticated, service_role;
