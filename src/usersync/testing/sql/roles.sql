-- The roles of a Supabase project. Roles belong to the cluster, not to a database, so everything here
-- can be repeated; the caller holds a cluster-wide lock against a second creator.
-- Source: supabase/postgres, migrations/db/init-scripts and nix/tests/expected/roles.out (facts 1.1).

do $$
declare
  wanted text;
begin
  foreach wanted in array array[
    'supabase_admin', 'postgres', 'supabase_auth_admin', 'authenticator', 'anon', 'authenticated',
    'service_role', 'dashboard_user', 'supabase_read_only_user', 'supabase_replication_admin',
    'supabase_etl_admin'
  ] loop
    if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
      execute format('create role %I', wanted);
    end if;
  end loop;
end
$$;

-- The platform's own role, and the only superuser. `postgres` lost that attribute in 2022.
alter role supabase_admin with login superuser createdb createrole replication bypassrls;
alter role postgres with login nosuperuser createdb createrole replication bypassrls;

-- GoTrue's login. NOINHERIT, and since 2026-08-21 without CREATEROLE.
alter role supabase_auth_admin with login noinherit nosuperuser nocreatedb nocreaterole;

-- PostgREST's login, and the roles it switches to.
alter role authenticator with login noinherit nosuperuser nocreatedb nocreaterole;
alter role anon with nologin;
alter role authenticated with nologin;
alter role service_role with nologin bypassrls;

alter role dashboard_user with nologin createdb createrole replication;
alter role supabase_read_only_user with login bypassrls;
alter role supabase_replication_admin with login replication;
alter role supabase_etl_admin with login replication;

grant anon, authenticated, service_role to authenticator;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
grant pg_read_all_data to supabase_read_only_user;

-- `postgres` is a member of the API roles and, since 2025-04-21, no longer of supabase_auth_admin.
do $$
begin
  if current_setting('server_version_num')::int >= 160000 then
    grant anon, authenticated, service_role to postgres with admin option;
  else
    grant anon, authenticated, service_role to postgres;
  end if;
end
$$;

alter role supabase_admin set search_path = "$user", public, auth, extensions;
alter role supabase_admin set log_statement = 'none';
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_auth_admin set search_path = auth;
alter role supabase_auth_admin set idle_in_transaction_session_timeout = 60000;
alter role supabase_auth_admin set log_statement = 'none';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
