-- Creates the users table if it is missing. An existing table stays as it is.
do $usersync$
begin
    if to_regclass('@users_table') is not null then
        return;
    end if;
    create schema if not exists "@users_schema";
    create table "@users_table" as
        select '@created_values' from "@source_table" as source with no data;
    alter table "@users_table" add primary key ("@key");
    comment on table "@users_table" is
        'The application''s users, created by usersync and kept in sync with the auth server''s. '
        'The row of a deleted user keeps its id, so that foreign keys stay valid.';

    -- Signed-in users can read only their own row. Anonymous sessions cannot, because of the security advisor's lint
    -- 0012. If they need access, create a policy for them.
    alter table "@users_table" enable row level security;
    revoke all on table "@users_table" from public;
    if to_regrole('service_role') is not null then
        -- Without TRIGGER: a trigger's code runs with the rights of the role that syncs.
        revoke all on table "@users_table" from service_role;
        grant select, insert, update, delete on table "@users_table" to service_role;
    end if;
    if to_regrole('anon') is not null then
        revoke all on table "@users_table" from anon;
    end if;
    if to_regrole('authenticated') is not null and to_regprocedure('auth.jwt()') is not null then
        create policy "Users read their own row" on "@users_table" for select to authenticated using (
            (select auth.uid())::"@key_type" = "@key" and ((select auth.jwt()) ->> 'is_anonymous')::boolean is not true
        );
        revoke all on table "@users_table" from authenticated;
        -- pg_graphql would show the table's columns to every role that has SELECT (lint 0027).
        if not exists (select from pg_extension where extname = 'pg_graphql') then
            grant select on table "@users_table" to authenticated;
        end if;
    end if;
end;
$usersync$;
