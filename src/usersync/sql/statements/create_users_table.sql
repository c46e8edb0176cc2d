-- Makes the users table where there is none. One that exists stays as it is.
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
        'The application''s users, created by usersync and kept in step with the auth server''s. '
        'Deleting a user leaves the id behind, so that every reference holds.';

    -- Signed-in people read their own row and nobody else's. Anonymous sessions are left out because the
    -- security advisor asks for it (lint 0012); give them a policy of their own where they need one.
    alter table "@users_table" enable row level security;
    revoke all on table "@users_table" from public;
    if to_regrole('service_role') is not null then
        -- Not TRIGGER, above all: whoever may make one runs code as the role that the sync runs as.
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
        -- pg_graphql would show the table's columns to everybody who may select from it (lint 0027).
        if not exists (select from pg_extension where extname = 'pg_graphql') then
            grant select on table "@users_table" to authenticated;
        end if;
    end if;
end;
$usersync$;
