-- Schemas of a project, and who may enter them. Run as superuser in a database owned by `postgres`:
-- that ownership is what lets `postgres` create in `public`, through pg_database_owner.

create schema extensions authorization postgres;
grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to dashboard_user;

grant usage on schema public to postgres, anon, authenticated, service_role;

create schema auth authorization supabase_admin;
grant all on schema auth to supabase_auth_admin, dashboard_user;
grant usage on schema auth to postgres, anon, authenticated, service_role;
