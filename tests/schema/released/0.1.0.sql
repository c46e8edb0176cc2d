-- usersync 0.1.0: installs or upgrades everything, and can be run again.
-- Made by: usersync sql. Do not edit; change usersync.toml and make it again.
-- Run with: psql --set ON_ERROR_STOP=1 --file THIS_FILE

begin;

set local client_encoding = 'UTF8';
set local lock_timeout = '2s';
set local statement_timeout = '60s';
set local search_path = pg_catalog;

do $usersync$
declare
    conflict record;
    installed text;
begin
    for conflict in
-- Objects of our names that are not ours. Ours are known by the comment that each of our functions carries.
select
    'trigger' as kind,
    trigger.tgname::text as name,
    format('%I.%I(%s)', namespace.nspname, function.proname, oidvectortypes(function.proargtypes)) as function
from pg_trigger as trigger
join pg_proc as function on function.oid = trigger.tgfoid
join pg_namespace as namespace on namespace.oid = function.pronamespace
where trigger.tgrelid = to_regclass('"auth"."users"')
    and not trigger.tgisinternal
    and trigger.tgname in ('on_auth_user_created', 'on_auth_user_updated', 'on_auth_user_deleted')
    and coalesce(obj_description(function.oid, 'pg_proc'), '') not like 'usersync: %'
union all
select 'function', format('%I.%I(%s)', 'public', function.proname, oidvectortypes(function.proargtypes)), null
from pg_proc as function
where function.pronamespace = to_regnamespace('public')
    and function.proname in ('ensure_user_exists', 'record_audit_events', 'sync_existing_auth_users', 'user_sync_status', 'usersync')
    and coalesce(obj_description(function.oid, 'pg_proc'), '') not like 'usersync: %'
union all
select 'schema', namespace.nspname::text, null
from pg_namespace as namespace
where namespace.nspname = 'usersync'
    and coalesce(obj_description(namespace.oid, 'pg_namespace'), '') not like 'usersync: %'
order by 1, 2
    loop
        raise exception 'usersync: the % % is not usersync''s', conflict.kind, conflict.name
            using hint = 'Connect usersync to this database and run "usersync plan": it says what to do.';
    end loop;
    if exists (
        select from pg_class
        where relnamespace = to_regnamespace('usersync') and relname in ('settings', 'schema_version')
            and (relkind <> 'r' or not pg_has_role(relowner, 'USAGE'))
    ) then
        raise exception 'usersync: there is a schema usersync that is not usersync''s';
    end if;
    if to_regclass('usersync.settings') is not null then
        select only_row.settings ->> 'library_version' into installed from usersync.settings as only_row;
        if string_to_array(substring(installed from '^[0-9.]*[0-9]'), '.')::integer[]
            > string_to_array('0.1.0', '.')::integer[]
        then
            raise exception 'usersync % set this database up, and this is 0.1.0', installed;
        end if;
    end if;
    if to_regclass('usersync.schema_version') is not null then
        if exists (
            select from usersync.schema_version as applied
            where (applied.version, applied.checksum) not in ((1, 'c6264097eec0d0d839f3625c45d128580c210833203820fe41b22ea9977c231b'), (2, '43104c5efc0652bb719b15243cd99bbe2ac9dc03b233da916afb90db5e17e187'), (3, '61c1bb9327bd63952908baa5308669fd9a3df8c26ba745140572a084936475d0'), (4, '3c1041893224c6ecb86b5ad23a8299d8670950f58231025f9c29d2531816f93c'))
        ) then
            raise exception 'usersync: a migration was applied here that usersync 0.1.0 does not have'
                using hint = 'Upgrade usersync, or install an unmodified one.';
        end if;
    end if;
end;
$usersync$;

create schema if not exists usersync;
comment on schema usersync is
    'usersync: keeps the application''s users in step with the auth server''s. Not for the Data API.';

create table if not exists usersync.schema_version (
    version integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table usersync.schema_version is 'The migrations that were applied, with the checksum of each.';

create table if not exists usersync.functions (
    signature text primary key,
    checksum text not null,
    fingerprint text not null,
    installed_at timestamptz not null default now()
);
comment on table usersync.functions is
    'The functions as they were installed: the checksum of the text, and the fingerprint of what came of it.';

insert into usersync.schema_version (version, name, checksum) values (1, 'core', 'c6264097eec0d0d839f3625c45d128580c210833203820fe41b22ea9977c231b')
on conflict (version) do nothing;
-- What usersync keeps for itself. Nobody but the owner reaches this schema.

create table if not exists usersync.sync_failures (
    user_id uuid primary key,
    outcome text not null check (outcome in ('degraded', 'failed')),
    sqlstate text not null,
    constraint_name text,
    column_name text,
    message text not null,
    raised_in text,
    attempts integer not null default 1,
    first_failed_at timestamptz not null default now(),
    last_failed_at timestamptz not null default now()
);
comment on table usersync.sync_failures is
    'The ledger: users whose row is missing (failed) or holds less than it should (degraded), and why. '
    'Success removes the row. DETAIL of an error is never kept, because it holds e-mail addresses.';
comment on column usersync.sync_failures.raised_in is
    'The function that raised, where it was a function: usually a trigger of the application.';

create table if not exists usersync.sync_runs (
    run_id uuid not null,
    part integer not null,
    part_count integer not null,
    state text not null default 'running' check (state in ('running', 'interrupted', 'finished')),
    next_id uuid,
    last_id uuid not null,
    page_size integer not null check (page_size > 0),
    examined bigint not null default 0,
    missing bigint not null default 0,
    stale bigint not null default 0,
    orphaned bigint not null default 0,
    degraded bigint not null default 0,
    failed bigint not null default 0,
    started_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    started_by text not null default current_setting('application_name'),
    primary key (run_id, part)
);
comment on table usersync.sync_runs is
    'Reconciling runs, a row for each range of ids: how far it came (next_id) and what it found.';

create table if not exists usersync.settings (
    only_row boolean primary key default true check (only_row),
    settings jsonb not null,
    applied_at timestamptz not null default now()
);
comment on table usersync.settings is 'The settings that the functions in this database were made from.';

insert into usersync.schema_version (version, name, checksum) values (2, 'audit', '43104c5efc0652bb719b15243cd99bbe2ac9dc03b233da916afb90db5e17e187')
on conflict (version) do nothing;
-- What the audit log keeps for itself: what an event is, and those that were none.

do $usersync$
begin
    if to_regtype('usersync.audit_event') is not null then
        return;
    end if;
    -- The limits of an event. The name of a constraint is what its sender reads in usersync.audit_rejects.
    create domain usersync.event_action as text
        constraint has_1_to_200_characters check (value is not null and length(value) between 1 and 200);
    create domain usersync.event_name as text
        constraint has_at_most_200_characters check (length(value) <= 200);
    create domain usersync.event_outcome as text
        constraint is_succeeded_failed_or_denied check (value in ('succeeded', 'failed', 'denied'));
    create domain usersync.event_actor_type as text
        constraint is_user_service_system_or_anonymous check (value in ('user', 'service', 'system', 'anonymous'));
    create domain usersync.event_source as text
        constraint is_app_trigger_or_sync check (value in ('app', 'trigger', 'sync'));
    create domain usersync.event_object as jsonb
        constraint is_a_json_object check (jsonb_typeof(value) = 'object');
    -- The years that every client can read, whatever its time zone.
    create domain usersync.event_time as timestamptz
        constraint is_in_the_years_1_to_9999 check (value >= '0001-01-02 00:00Z' and value < '9999-12-31 00:00Z');

    create type usersync.audit_event as (
        id uuid,
        occurred_at usersync.event_time,
        action usersync.event_action,
        outcome usersync.event_outcome,
        actor_id usersync.event_name,
        actor_type usersync.event_actor_type,
        user_id uuid,
        entity_type usersync.event_name,
        entity_id usersync.event_name,
        changes usersync.event_object,
        metadata usersync.event_object,
        request_id usersync.event_name,
        ip inet,
        user_agent text,
        source usersync.event_source
    );
    comment on type usersync.audit_event is 'An event as public.record_audit_events takes it: a JSON object of these.';
end;
$usersync$;

do $usersync$
begin
    -- Those that a rollback left with the audit log.
    if obj_description(to_regclass(format('%s.audit_rejects', '"public"')), 'pg_class')
        like 'Events that could not be stored because of what they contain%'
        and to_regclass('usersync.audit_rejects') is null
    then
        execute format('alter table %s.audit_rejects set schema usersync', '"public"');
    end if;
end;
$usersync$;

create table if not exists usersync.audit_rejects (
    reject_id bigint generated always as identity primary key,
    event jsonb not null,
    sqlstate text not null,
    reason text not null,
    rejected_at timestamptz not null default now(),
    -- Of an event that has an id: sent again, it is not kept again.
    fingerprint bytea unique
);
comment on table usersync.audit_rejects is
    'Events that could not be stored because of what they contain, each with the reason. Nothing is lost: '
    'mend the event and hand it to public.record_audit_events again.';

insert into usersync.schema_version (version, name, checksum) values (3, 'adopted', '61c1bb9327bd63952908baa5308669fd9a3df8c26ba745140572a084936475d0')
on conflict (version) do nothing;
-- What usersync has taken over from a hand-written sync, so that taking usersync back brings it back.

create table if not exists usersync.adopted (
    kind text not null check (kind in ('trigger', 'search_path')),
    name text not null,
    function_name text not null,
    definition text not null,
    function_definition text not null,
    moved_to text,
    adopted_at timestamptz not null default now(),
    primary key (kind, name)
);
comment on table usersync.adopted is
    'Triggers on the auth server''s table that usersync has taken the place of, and functions whose search_path it '
    'has set, each as it was before. Rollback brings them back.';
comment on column usersync.adopted.function_definition is
    'What makes the function again, with its privileges, where it is gone by then.';
comment on column usersync.adopted.moved_to is
    'The name under which the trigger goes on running, where it does more than usersync does.';

insert into usersync.schema_version (version, name, checksum) values (4, 'source_copy', '3c1041893224c6ecb86b5ad23a8299d8670950f58231025f9c29d2531816f93c')
on conflict (version) do nothing;
-- Makes room for a copy of the auth server's table, for an auth server that keeps its users in another database: what
-- its admin API says of a user, under the names of its own columns. "usersync sync --from-api" fills it, where
-- source_table names it; elsewhere it stays empty.

create table if not exists usersync.auth_users (
    id uuid primary key,
    aud text,
    role text,
    email text,
    email_confirmed_at timestamptz,
    invited_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    phone text,
    phone_confirmed_at timestamptz,
    confirmed_at timestamptz,
    banned_until timestamptz,
    deleted_at timestamptz,
    is_anonymous boolean not null default false,
    seen_at timestamptz not null default now()
);
comment on table usersync.auth_users is
    'A copy of the auth server''s users, as its admin API told them; seen_at is when it last did.';

-- Makes the users table where there is none. One that exists stays as it is.
do $usersync$
begin
    if to_regclass('"public"."users"') is not null then
        return;
    end if;
    create schema if not exists "public";
    create table "public"."users" as
        select source."id" as "id", (source."email")::text as "email", (source."phone")::text as "phone", (coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}')::text as "full_name", (coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}')::text as "avatar_url", (source."is_anonymous")::boolean as "is_anonymous", (source."email_confirmed_at")::timestamptz as "email_confirmed_at", (source."phone_confirmed_at")::timestamptz as "phone_confirmed_at", (source."banned_until")::timestamptz as "banned_until", (source."created_at")::timestamptz as "created_at", (source."deleted_at")::timestamptz as "deleted_at" from "auth"."users" as source with no data;
    alter table "public"."users" add primary key ("id");
    comment on table "public"."users" is
        'The application''s users, created by usersync and kept in step with the auth server''s. '
        'Deleting a user leaves the id behind, so that every reference holds.';

    -- Signed-in people read their own row and nobody else's. Anonymous sessions are left out because the
    -- security advisor asks for it (lint 0012); give them a policy of their own where they need one.
    alter table "public"."users" enable row level security;
    revoke all on table "public"."users" from public;
    if to_regrole('service_role') is not null then
        -- Not TRIGGER, above all: whoever may make one runs code as the role that the sync runs as.
        revoke all on table "public"."users" from service_role;
        grant select, insert, update, delete on table "public"."users" to service_role;
    end if;
    if to_regrole('anon') is not null then
        revoke all on table "public"."users" from anon;
    end if;
    if to_regrole('authenticated') is not null and to_regprocedure('auth.jwt()') is not null then
        create policy "Users read their own row" on "public"."users" for select to authenticated using (
            (select auth.uid()) = "id" and ((select auth.jwt()) ->> 'is_anonymous')::boolean is not true
        );
        revoke all on table "public"."users" from authenticated;
        -- pg_graphql would show the table's columns to everybody who may select from it (lint 0027).
        if not exists (select from pg_extension where extname = 'pg_graphql') then
            grant select on table "public"."users" to authenticated;
        end if;
    end if;
end;
$usersync$;

-- Gives a function of the application's the search path that it relies on, and keeps what it was for give_back.
create or replace function usersync.adopt_search_path(function_name text, search_path text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    execute format('alter function %s set search_path = %s', function_name::regprocedure, adopt_search_path.search_path);
    insert into usersync.adopted (kind, name, function_name, definition, function_definition)
    select 'search_path', oid::regprocedure::text, oid::regprocedure::text, array_to_string(proconfig, ', '), ''
    from pg_proc where oid = function_name::regprocedure
    on conflict (kind, name) do update set definition = excluded.definition, adopted_at = now();
end;
$usersync$;
comment on function usersync.adopt_search_path(text, text) is
    'usersync: gives a function of the application''s the search path that it relies on.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.adopt_search_path(text, text)', 'a84960997574275f3ea0c5be5cca600c8a54daccf249842bf5f84fbe67796580', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.adopt_search_path(text, text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Takes the place of a trigger on the auth server's table: it goes, and what it was is kept for give_back. With
-- new_name it goes on running under that name, which makes room for one of ours. Its function stays as it is.
create or replace function usersync.adopt_trigger(trigger_name text, new_name text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    adopted record;
begin
    -- At once the lock that removing it takes: a sign-up that has read the table and waits for a weaker one to write
    -- to it would wait for us, and we for it.
    lock table only "auth"."users" in access exclusive mode;
    select
        pg_get_triggerdef(pg_trigger.oid) as definition,
        tgfoid::regprocedure::text as function_name,
        concat_ws(E';\n',
            pg_get_functiondef(tgfoid),
            format('comment on function %s is %L', tgfoid::regprocedure, obj_description(tgfoid, 'pg_proc')),
            case when proacl is not null then format('revoke all on function %s from public', tgfoid::regprocedure) end,
            (
                select string_agg(
                    format(
                        'grant execute on function %s to %s', tgfoid::regprocedure,
                        case when grantee = 0 then 'public' else grantee::regrole::text end
                        || case when is_grantable then ' with grant option' else '' end
                    ),
                    E';\n'
                )
                from aclexplode(proacl) where grantee <> proowner
            )
        ) as function_definition
    into strict adopted
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    where tgrelid = '"auth"."users"'::regclass and tgname = adopt_trigger.trigger_name and not tgisinternal;

    insert into usersync.adopted (kind, name, function_name, definition, function_definition, moved_to)
    values (
        'trigger', adopt_trigger.trigger_name, adopted.function_name, adopted.definition, adopted.function_definition,
        adopt_trigger.new_name
    )
    on conflict (kind, name) do update set
        function_name = excluded.function_name,
        definition = excluded.definition,
        function_definition = excluded.function_definition,
        moved_to = excluded.moved_to,
        adopted_at = now();
    if new_name is not null then
        execute overlay(
            adopted.definition placing format('CREATE OR REPLACE TRIGGER %I ', new_name)
            from 1 for length(format('CREATE TRIGGER %I ', trigger_name))
        );
    end if;
    perform usersync.remove_trigger(trigger_name);
end;
$usersync$;
comment on function usersync.adopt_trigger(text, text) is
    'usersync: takes the place of a trigger on the auth server''s table, and keeps what it was.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.adopt_trigger(text, text)', '2b71ac52342ce93768da27485f19b092308ce7b4b5250571ff2740975f15f143', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.adopt_trigger(text, text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Does the next page of one part of a run, and keeps the place: both, or neither. Whoever comes second to a
-- part waits, and goes on after it.
create or replace function usersync.advance_run(run_id uuid, part integer) returns usersync.sync_runs
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    run usersync.sync_runs;
    page record;
begin
    select * into strict run from usersync.sync_runs as run
    where run.run_id = advance_run.run_id and run.part = advance_run.part
    for update;
    if run.next_id is null then
        return run;
    end if;
    page := usersync.reconcile_page(run.next_id, run.last_id, run.page_size, false);
    update usersync.sync_runs as run set
        state = case when page.next_id is null then 'finished' else 'running' end,
        next_id = page.next_id,
        examined = run.examined + page.examined,
        missing = run.missing + page.missing,
        stale = run.stale + page.stale,
        orphaned = run.orphaned + page.orphaned,
        degraded = run.degraded + page.degraded,
        failed = run.failed + page.failed,
        updated_at = clock_timestamp()
    where run.run_id = advance_run.run_id and run.part = advance_run.part
    returning run.* into run;
    return run;
end;
$usersync$;
comment on function usersync.advance_run(uuid, integer) is
    'usersync: does the next page of one part of a reconciling run.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.advance_run(uuid, integer)', 'c734167d80f56dd2152483c80725e8a4c1b954048b5df0351c20292cb0396e72', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.advance_run(uuid, integer)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Raises if more rows would be removed than may.
create or replace function usersync.check_removals() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    counted record := usersync.count_removals();
begin
    if counted.removals > counted.allowed then
        raise exception 'usersync: % of % rows belong to users whom the auth server no longer has; at most % may be removed at once',
            counted.removals, counted.users, counted.allowed
            using errcode = 'US403', hint = 'If this is meant, run "usersync sync --removal-cap 1".';
    end if;
end;
$usersync$;
comment on function usersync.check_removals() is
    'usersync: raises if a reconciling run would remove more rows than it may.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.check_removals()', '4b6983c5b74f3b9a4ffd56b1fdaaf6bec0fb4c0455021a0e08a09d5985c1e73b', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.check_removals()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- The columns that a constraint or a unique index of the users table is about; null if there is none of that name.
create or replace function usersync.columns_of(constraint_name text) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return (
        select array_agg(attname::text order by attnum)
        from pg_attribute
        where attrelid = '"public"."users"'::regclass
            and attnum = any(coalesce(
                (
                    select conkey from pg_constraint
                    where conrelid = '"public"."users"'::regclass and conname = columns_of.constraint_name
                ),
                (
                    select case
                        when indexprs is null then indkey::int2[]
                        -- Of an index on an expression, say lower(username), those that it depends on.
                        else array(
                            select refobjsubid::int2 from pg_depend
                            where classid = 'pg_class'::regclass and objid = indexrelid
                                and refclassid = 'pg_class'::regclass and refobjid = indrelid and refobjsubid > 0
                        )
                    end
                    from pg_index
                    join pg_class on pg_class.oid = indexrelid
                    where indrelid = '"public"."users"'::regclass and relname = columns_of.constraint_name
                )
            ))
    );
exception when others then
    return null;
end;
$usersync$;
comment on function usersync.columns_of(text) is 'usersync: the columns of a constraint on the users table.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.columns_of(text)', 'f088f090ad39b755e762439df04ca2a80cb5ccf73e79683ab0a88f3ddc04fae4', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.columns_of(text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Whether both tables agree and nobody is in the ledger, in one pass over each: what a run finds nearly always, for a
-- fifth of what going through the pages costs. Where they do not agree, or that cannot be said, the pages say what
-- differs; then only in_step is good. Raises for nothing that the pages would not raise for.
--
-- Of each row there is a digest, and both sides have the same rows if their digests add up to the same. A digest is
-- seeded with the row's key, or two rows that have swapped a value would add up to the same; and anew each time, or
-- somebody could choose names that do. By chance they do once in 2^64.
--
-- A row that a deletion has left is in no sum. If it belongs to somebody alive, they are in one, and the sums differ.
-- Where a row says itself whether it is such a one, nothing asks for its owner, and the planner leaves out that join.
-- enable_mergejoin: where it does not, a merge join would go through both tables in the order of the primary keys, which
-- is no order on the disk.
create or replace function usersync.compare_at_once(
    out in_step boolean, out examined bigint, out auth_users bigint, out users bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_mergejoin = off
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
as $usersync$
#variable_conflict use_column
declare
    seed bigint := hashtextextended(gen_random_uuid()::text, 0);
    ours record;
    theirs record;
begin
    in_step := false;
    if exists (select from usersync.sync_failures) then
        return;
    end if;
    select
        count(*) as rows,
        count(*) filter (where judged.is_current) as living,
        count(*) filter (where not judged.is_current and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true) as orphaned,
        sum(hash_record_extended(row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at"), seed # uuid_hash_extended(target."id", seed)))
            filter (where judged.is_current) as digests
    into ours
    from "public"."users" as target
    left join "auth"."users" as owner on owner."id" = target."id" and owner."deleted_at" is null
    cross join lateral (select target."deleted_at" is null) as judged (is_current)
    where target."id" is not null;
    -- A first run is not to wait for the digests of all who have no row.
    if ours.orphaned > 0 or ours.living = 0 and exists (
        select from "auth"."users" as source where source."deleted_at" is null
    ) then
        return;
    end if;
    select
        count(*) as rows,
        count(*) filter (where source."deleted_at" is null) as living,
        sum(hash_record_extended(row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at"), seed # uuid_hash_extended(source."id", seed)))
            filter (where source."deleted_at" is null) as digests
    into theirs
    from "auth"."users" as source;
    in_step := ours.digests is not distinct from theirs.digests;
    users := ours.rows;
    auth_users := theirs.living;
    examined := theirs.rows;
    if ours.rows > ours.living then
        examined := examined + (
            select count(*)
            from "public"."users" as target
            left join "auth"."users" as owner on owner."id" = target."id" and owner."deleted_at" is null
            cross join lateral (select target."deleted_at" is null) as judged (is_current)
            where target."id" is not null and not judged.is_current
                and not exists (select from "auth"."users" as source where source."id" = target."id")
        );
    end if;
exception
    -- A type that has no hash; a disk, or what may be written to it, too small for a join.
    when undefined_function or insufficient_resources then
        in_step := false;
end;
$usersync$;
comment on function usersync.compare_at_once() is
    'usersync: whether both tables agree, in one pass over each.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.compare_at_once()', '381c975c616d731576eebe3d43b9ef16db0c9b408f3b12c5fb20b40f69ff693b', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.compare_at_once()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- How many rows on_delete would be applied to by a reconciling run, out of how many, and how many may be.
-- An empty or half-restored auth server's table would otherwise take everybody with it.
create or replace function usersync.count_removals(
    out removals bigint, out users bigint, out auth_users bigint, out allowed bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    select
        count(*) filter (where source."id" is null and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true),
        count(*)
    into count_removals.removals, count_removals.users
    from "public"."users" as target
    left join "auth"."users" as source on source."id" = target."id" and source."deleted_at" is null
    -- A row that was never linked to a user has none to lose.
    where target."id" is not null;
    count_removals.auth_users := (select count(*) from "auth"."users");
    count_removals.allowed := greatest(10, floor(count_removals.users * 0.05::numeric));
end;
$usersync$;
comment on function usersync.count_removals() is
    'usersync: how many rows belong to users who are gone, and how many a run may remove.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.count_removals()', '9ffff34992d5f6e3d3f60b32d3f4d4b16ecb6c371c6307d88ff73bc00f19ecac', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.count_removals()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- How many users of the copy were not told again since a moment, out of how many, and how many may go at once.
create or replace function usersync.count_unseen(
    since timestamptz, out unseen bigint, out users bigint, out allowed bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    select count(*) filter (where stored.seen_at < count_unseen.since), count(*)
    into count_unseen.unseen, count_unseen.users
    from usersync.auth_users as stored;
    count_unseen.allowed := greatest(10, floor(count_unseen.users * 0.05::numeric));
end;
$usersync$;
comment on function usersync.count_unseen(timestamp with time zone) is
    'usersync: how many users of the copy the admin API has not told since a moment.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.count_unseen(timestamp with time zone)', 'd869ed85c55c99d1299f5b577b8b27f728e35ae2ba922fd10e16034be970a41a', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.count_unseen(timestamp with time zone)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- What is left to do for users whose full row was refused: a minimal row, so that foreign keys hold, and
-- a line in the ledger that says why. Raises nothing; where even the ledger fails, the server's log has it.
create or replace function usersync.degrade_users(
    ids uuid[], reason text, failed_constraint text, failed_column text, error_message text, error_context text
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
as $usersync$
declare
    half integer := cardinality(ids) / 2;
    second_reason text;
    yielding record;
begin
    if reason = '23505' and half = 0 and array['degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade'] && '{"null",suffix}' then
        select * into yielding from usersync.write_yielding_row(ids[1], failed_constraint);
        if yielding.written and yielding.lacking is null then
            delete from usersync.sync_failures where user_id = ids[1];
            return;
        elsif yielding.written then
            failed_column := yielding.lacking;
            failed_constraint := yielding.lacking_for;
            error_message := format('duplicate key value violates unique constraint "%s"', failed_constraint);
        end if;
    end if;
    if reason = '55P03' then
        -- The sign-up has waited once, and is not to wait for the same lock again.
        perform set_config('lock_timeout', '10ms', true);
    else
        begin
            perform usersync.write_minimal_rows(ids);
        exception when others or assert_failure then
            second_reason := sqlstate;
        end;
    end if;
    if half > 0 and left(second_reason, 2) in ('22', '23', 'P0') then
        perform usersync.degrade_users(
            ids[:half], reason, failed_constraint, failed_column, error_message, error_context);
        perform usersync.degrade_users(
            ids[half + 1:], reason, failed_constraint, failed_column, error_message, error_context);
        return;
    end if;
    perform usersync.record_failures(
        ids,
        reason,
        failed_constraint,
        coalesce(
            failed_column,
            array_to_string(usersync.columns_of(failed_constraint), ', '),
            case when reason ~ '^(22|23|42703|42804)' then usersync.misfit_column(ids[1]) end
        ),
        error_message,
        usersync.raised_below(error_context)
    );
exception when others or assert_failure then
    raise warning 'usersync: % user(s) were not synced, and the ledger could not be written either', cardinality(ids)
        using detail = format(
            'Users: %s. Cause: %s %s. The ledger: %s %s.',
            left(array_to_string(ids, ', '), 1000), reason, usersync.without_values(reason, error_message), sqlstate, sqlerrm),
        hint = 'Run "usersync doctor", then "usersync sync".';
end;
$usersync$;
comment on function usersync.degrade_users(uuid[], text, text, text, text, text) is
    'usersync: gives users whose row was refused a minimal row, and notes the reason.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.degrade_users(uuid[], text, text, text, text, text)', '98368dc0643991c1fc234e65e86616c7598f54c2dccaa6557be4b6faa0dd0f51', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.degrade_users(uuid[], text, text, text, text, text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- What is recorded of bytes: all of them if they are few, else their hash. The same as what the Python side
-- makes of them.
create or replace function usersync.describe_bytes(given bytea) returns text
language sql immutable parallel safe strict
set search_path = pg_catalog, pg_temp
as $usersync$
select '[bytes: ' || octet_length(given) || case
    when octet_length(given) <= 256 then ', base64 ' || translate(encode(given, 'base64'), E'\n', '')
    else ', sha256 ' || encode(sha256(given), 'hex')
end || ']'
$usersync$;
comment on function usersync.describe_bytes(bytea) is 'usersync: what the audit log keeps of bytes.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.describe_bytes(bytea)', '114b07d6500757c0b35d3028d880322885fec5d74128302fc30784e53c614bb8', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.describe_bytes(bytea)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Whether this user has a row, making one first where the auth server knows the user.
create or replace function public.ensure_user_exists(user_id uuid) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    if exists (select from "public"."users" as target where target."id" = ensure_user_exists.user_id) then
        return true;
    end if;
    perform usersync.sync_users(array[user_id]);
    return exists (select from "public"."users" as target where target."id" = ensure_user_exists.user_id);
exception when undefined_table or undefined_column then
    return false;
end;
$usersync$;
comment on function public.ensure_user_exists(uuid) is
    'usersync: makes sure that this user has a row in the users table; false if there is no such user.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'public.ensure_user_exists(uuid)', '58db190174d5d3368183cc9fba046666900cf14f54ec12202081e156c0adc3fc', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'public.ensure_user_exists(uuid)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- A document without the personal values in it: those under a key that has one of the words in it. words are as
-- usersync.personal.words_of makes them; a test holds this against its twin there, which sees to the spools. Null
-- and booleans say nothing of a person. What is nested beyond all reason is taken for personal as it is.
create or replace function usersync.erase_keys(
    document jsonb, words text[], personal boolean default false, depth integer default 0
) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    case jsonb_typeof(document)
    when 'object' then
        if personal or depth >= 32 then
            return '"[erased]"'::jsonb;
        end if;
        return (
            select coalesce(jsonb_object_agg(entry.key, usersync.erase_keys(
                entry.value,
                words,
                exists (select from unnest(words) as word where position(word in spelt.key) > 0),
                depth + 1
            )), '{}')
            from jsonb_each(document) as entry
            cross join lateral (
                select concat('_', regexp_replace(lower(regexp_replace(
                    regexp_replace(entry.key collate "C", '([A-Z]+)([A-Z][a-z])', '\1_\2', 'g'),
                    '([a-z0-9])([A-Z])', '\1_\2', 'g'
                )), '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', '_', 'g'), '_')
            ) as spelt (key)
        );
    when 'array' then
        if depth >= 32 then
            return '"[erased]"'::jsonb;
        end if;
        return (
            select coalesce(
                jsonb_agg(usersync.erase_keys(element.value, words, personal, depth + 1) order by element.turn), '[]')
            from jsonb_array_elements(document) with ordinality as element (value, turn)
        );
    when 'string', 'number' then
        return case when personal then '"[erased]"'::jsonb else document end;
    else
        return document;
    end case;
end;
$usersync$;
comment on function usersync.erase_keys(jsonb, text[], boolean, integer) is
    'usersync: a document without what is under personal keys.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.erase_keys(jsonb, text[], boolean, integer)', 'f29e49d6ccb375f65cde79e2a4e3fae99e4dd25561f77e526b00694d3f580fd5', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.erase_keys(jsonb, text[], boolean, integer)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- What is wrong with an event, all nulls if nothing is. The field is found by trying each one alone, because
-- PostgreSQL names the value in such an error, and not the field.
create or replace function usersync.fault_of_event(event jsonb, out code text, out reason text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    field text;
begin
    perform jsonb_populate_record(null::usersync.audit_event, event);
    return;
exception when others then
    code := sqlstate;
    reason := sqlerrm;
    if jsonb_typeof(event) <> 'object' then
        reason := 'an event is a JSON object, and this is a JSON ' || jsonb_typeof(event);
        return;
    end if;
    for field in
        select attname from pg_attribute where attrelid = 'usersync.audit_event'::regclass and attnum > 0 order by attnum
    loop
        begin
            perform jsonb_populate_record(
                null::usersync.audit_event, '{"action": "any"}' || jsonb_build_object(field, event -> field));
        exception when others then
            reason := field || ': ' || sqlerrm;
            return;
        end;
    end loop;
end;
$usersync$;
comment on function usersync.fault_of_event(jsonb) is 'usersync: what is wrong with an event.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.fault_of_event(jsonb)', '573d5cde1b1dcec3bc5fa8edd3938737d0bb0bb04d54ded9f112786f6a691e99', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.fault_of_event(jsonb)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- The columns of a row of a tracked table, by the names that they have now. Read from the row's text, because
-- to_jsonb calls the cast to json that whoever owns a column's type may have made, with the rights of whoever
-- calls this; an output function is nobody's to make but a superuser's. What jsonb does not take stays text.
create or replace function usersync.fields_of_row(changed_row record, table_id oid) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
as $usersync$
begin
    return (
        with columns as (
            select attname, coalesce(nullif(typbasetype, 0), atttypid)::regtype as type,
                row_number() over (order by attnum) as position
            from pg_attribute join pg_type on pg_type.oid = atttypid
            where attrelid = table_id and attnum > 0 and not attisdropped
        ), pieces as (
            -- A comma and what follows: what holds commas or quotes is quoted, with its quotes and backslashes doubled.
            select match[1] as piece, position
            from regexp_matches(
                ',' || substr(concat(changed_row), 2, length(concat(changed_row)) - 2), ',("(?:[^"]|"")*"|[^",]*)', 'g'
            ) with ordinality as found (match, position)
        ), fields as (
            select attname, type, case
                when left(piece, 1) = '"' then replace(replace(
                    substr(piece, 2, length(piece) - 2), '""', '"'), E'\\\\', E'\\')
                else nullif(piece, '')
            end as value
            from columns join pieces using (position)
        )
        select jsonb_object_agg(attname, case
            when value is null then 'null'
            when type in ('smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision')
                then to_jsonb(value::numeric)
            when type = 'boolean'::regtype then to_jsonb(value::boolean)
            when type = 'timestamp'::regtype then to_jsonb(value::timestamp)
            when type = 'timestamptz'::regtype then to_jsonb(value::timestamptz)
            when type in ('json', 'jsonb') and usersync.fits(value, 'jsonb') then value::jsonb
            else to_jsonb(value)
        end)
        from fields
    );
end;
$usersync$;
comment on function usersync.fields_of_row(record, oid) is 'usersync: the columns of a row of a tracked table.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.fields_of_row(record, oid)', '962d19f55f8405e2aa6072d4a7489e44f75591aeeb9982bce092468e6a248b13', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.fields_of_row(record, oid)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Whether a value can be had in a type, without raising where it cannot.
create or replace function usersync.fits(value text, type_name text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if value is null then
        return true;
    end if;
    if current_setting('server_version_num')::integer >= 160000 then
        -- Given a bare parameter, it takes the type of the first call for that of all calls in the transaction.
        return pg_input_is_valid(value, type_name || '');
    end if;
    execute format('select %L::%s', value, type_name);
    return true;
exception when others or assert_failure then
    return false;
end;
$usersync$;
comment on function usersync.fits(text, text) is 'usersync: whether a value can be had in a type.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.fits(text, text)', '835cf7b30c0fa213e826bd8ed51b0159669e07ca754f00003ac9e8ba956e91dd', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.fits(text, text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Brings back what usersync had taken the place of, once its own triggers are gone. What somebody has changed since
-- is left as it is.
create or replace function usersync.give_back() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    adopted record;
begin
    for adopted in select * from usersync.adopted order by name loop
        if adopted.kind = 'search_path' then
            if exists (
                select from pg_proc
                where oid = to_regprocedure(adopted.function_name)
                    and array_to_string(proconfig, ', ') = adopted.definition
            ) then
                execute format('alter function %s reset search_path', adopted.function_name);
            end if;
            continue;
        end if;
        if exists (
            select from pg_trigger where tgrelid = '"auth"."users"'::regclass and tgname = adopted.moved_to
        ) then
            perform usersync.remove_trigger(adopted.moved_to);
        end if;
        if exists (select from pg_trigger where tgrelid = '"auth"."users"'::regclass and tgname = adopted.name) then
            raise warning 'usersync: there is a trigger % already, it stays as it is', adopted.name;
            continue;
        end if;
        if to_regprocedure(adopted.function_name) is null then
            execute adopted.function_definition;
        end if;
        execute adopted.definition;
    end loop;
    delete from usersync.adopted;
end;
$usersync$;
comment on function usersync.give_back() is
    'usersync: brings back the triggers and search paths that were there before usersync.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.give_back()', '92db9fe27ff35d6cf74c9724971f2df883fa107f84dc64ef4c57fc49cd3eed62', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.give_back()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Makes every partition refuse TRUNCATE, as the log itself does. The triggers for UPDATE and DELETE go to the
-- partitions by themselves, wherever they come from; one for TRUNCATE does not.
create or replace function usersync.guard_audit_partitions() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    partition regclass;
begin
    for partition in
        select relid from pg_partition_tree(to_regclass('"public"."audit_logs"'))
        where not exists (
            select from pg_trigger
            where tgrelid = relid and tgname = 'keep_all_audit_logs' and tgenabled in ('O', 'A') and tgtype = 34
                and tgfoid = 'usersync.keep_audit_logs()'::regprocedure and tgqual is null
        )
    loop
        execute format(
            'create or replace trigger keep_all_audit_logs before truncate on %s '
            'for each statement execute function usersync.keep_audit_logs()', partition);
    end loop;
end;
$usersync$;
comment on function usersync.guard_audit_partitions() is
    'usersync: makes the partitions of the audit log refuse TRUNCATE.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.guard_audit_partitions()', 'e81b1aa1f96767fda723cd935a2756e6393968f4be20c5dcec36fdf126aa0a66', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.guard_audit_partitions()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Trigger on the auth server's table, after DELETE. Hands the ids on and raises nothing.
create or replace function usersync.handle_deleted_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    ids uuid[];
begin
    if tg_relid <> '"auth"."users"'::regclass then
        -- Somebody has put another relation in its place. What that would run, it would run as our owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
    end if;
    ids := array(select old_users."id" from old_users);
    perform usersync.sync_users(ids, tg_op);
    return null;
exception when others or assert_failure then
    -- One of our own functions is gone or was changed.
    declare
        reason text := sqlstate;
        problem text := sqlerrm;
    begin
        perform usersync.degrade_users(ids, reason, null, null, problem, null);
    exception when others or assert_failure then
        raise warning 'usersync: deleted users were not synced: % %', reason, problem
            using detail = 'Users: ' || left(array_to_string(ids, ', '), 1000),
            hint = 'Run "usersync doctor", then "usersync sync".';
    end;
    return null;
end;
$usersync$;
comment on function usersync.handle_deleted_user() is
    'usersync: runs when the auth server deletes users, and applies on_delete to their rows.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.handle_deleted_user()', 'b2fe43796e7496a1a9a98ed22728dca996100c915d5966272eef7a9fabb88e9d', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.handle_deleted_user()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Trigger on the auth server's table, after INSERT. Raises nothing.
--
-- Nearly every sign-up needs one INSERT and nothing else, so that is tried first, with the rows as they came in. It is
-- left to sync_users where something might change what is written (a trigger of the application's for INSERT, or
-- partitions, which may have one), where the transaction has changed users already (what came in need not be what is
-- there by now), and where the INSERT fails, for whatever reason.
--
-- enable_seqscan: it is the index of the catalog that is to be used.
create or replace function usersync.handle_new_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    ids uuid[];
begin
    if tg_relid <> '"auth"."users"'::regclass then
        -- Somebody has put another relation in its place. What that would run, it would run as our owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
    end if;
    if tg_level = 'STATEMENT' and current_setting('usersync.has_changed_users', true) is distinct from 'yes' then
        begin
            -- As sync_users does it: what would fail at COMMIT fails in here.
            set constraints all immediate;
            if pg_partition_root('"public"."users"'::regclass) is null and not exists (
                select from pg_trigger
                where tgrelid = '"public"."users"'::regclass and tgtype & 4 <> 0 and not tgisinternal
            ) then
                insert into "public"."users" ("id", "email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at")
                select source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at" from new_users as source where source."deleted_at" is null;
                if found then
                    return null;
                end if;
            end if;
        exception when others or assert_failure then
            if sqlstate = '55P03' then
                perform set_config('usersync.has_waited', 'yes', true);
            end if;
        end;
    end if;
    if tg_level = 'ROW' then
        ids := array[new."id"];
    else
        ids := array(select new_users."id" from new_users);
    end if;
    perform usersync.sync_users(ids, tg_op);
    return null;
exception when others or assert_failure then
    -- One of our own functions is gone or was changed.
    declare
        reason text := sqlstate;
        problem text := sqlerrm;
    begin
        perform usersync.degrade_users(ids, reason, null, null, problem, null);
    exception when others or assert_failure then
        raise warning 'usersync: new users were not synced: % %', reason, problem
            using detail = 'Users: ' || left(array_to_string(ids, ', '), 1000),
            hint = 'Run "usersync doctor", then "usersync sync".';
    end;
    return null;
end;
$usersync$;
comment on function usersync.handle_new_user() is
    'usersync: runs when the auth server makes users, and gives each a row in the users table.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.handle_new_user()', 'aeb8e7cc85e451a59cfa7d144d707001de1c266e5fa560b014201d83f06054c0', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.handle_new_user()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Trigger on the auth server's table, after UPDATE. A sign-in and a token refresh update that table too, so
-- what was mirrored is compared here, in the body: a trigger that names columns would make the auth server's
-- own migrations fail (supabase/auth#994).
create or replace function usersync.handle_updated_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    ids uuid[];
begin
    if tg_relid <> '"auth"."users"'::regclass then
        -- Somebody has put another relation in its place. What that would run, it would run as our owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
    end if;
    if row(new."id", new."email", new."phone", coalesce(new."raw_user_meta_data" -> 'full_name', new."raw_user_meta_data" -> 'name') #>> '{}', coalesce(new."raw_user_meta_data" -> 'avatar_url', new."raw_user_meta_data" -> 'picture') #>> '{}', new."is_anonymous", new."email_confirmed_at", new."phone_confirmed_at", new."banned_until", new."created_at", new."deleted_at") is distinct from row(old."id", old."email", old."phone", coalesce(old."raw_user_meta_data" -> 'full_name', old."raw_user_meta_data" -> 'name') #>> '{}', coalesce(old."raw_user_meta_data" -> 'avatar_url', old."raw_user_meta_data" -> 'picture') #>> '{}', old."is_anonymous", old."email_confirmed_at", old."phone_confirmed_at", old."banned_until", old."created_at", old."deleted_at") then
        ids := case when new."id" = old."id" then array[new."id"] else array[new."id", old."id"] end;
        perform usersync.sync_users(ids, tg_op);
    end if;
    return null;
exception when others or assert_failure then
    -- Either one of our own functions is gone or was changed; or a column that is mirrored is, and whether it
    -- changed cannot be told. Then sync_users says so in the ledger, or finds that it can do without.
    declare
        reason text := sqlstate;
        problem text := sqlerrm;
    begin
        ids := coalesce(ids, array[new."id"]);
        if reason in ('42703', '42804') then
            perform usersync.sync_users(ids, tg_op);
        else
            perform usersync.degrade_users(ids, reason, null, null, problem, null);
        end if;
    exception when others or assert_failure then
        raise warning 'usersync: users were not synced: % %', reason, problem
            using detail = 'Users: ' || left(array_to_string(ids, ', '), 1000),
            hint = 'Run "usersync doctor", then "usersync sync".';
    end;
    return null;
end;
$usersync$;
comment on function usersync.handle_updated_user() is
    'usersync: runs when the auth server changes a user, and follows where a mirrored value changed.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.handle_updated_user()', '5476fec803330250eaad00a6a2564742c0e688a949321e6cdbfc7a89f14d2fb1', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.handle_updated_user()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Holds the rows of these users against deletion until the transaction ends, and says whose it holds; null
-- where the table cannot be had at all. A row that somebody else holds is waited for, shortly, and the others
-- are held without it then. Raises nothing.
create or replace function usersync.hold_users(ids uuid[], out held uuid[], out problem text)
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
set enable_seqscan = off
as $usersync$
begin
    held := array(select target."id" from "public"."users" as target where target."id" = any(hold_users.ids) for key share);
exception when others or assert_failure then
    problem := sqlstate || ' ' || sqlerrm;
    begin
        lock table "public"."users" in row share mode nowait;
        held := array(
            select target."id" from "public"."users" as target
            where target."id" = any(hold_users.ids) for key share skip locked
        );
    exception when others then
        held := null;
    end;
end;
$usersync$;
comment on function usersync.hold_users(uuid[]) is
    'usersync: holds the rows of these users, as far as they can be had.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.hold_users(uuid[])', '93ef95beb33a4952e8326f2f81551c3fb8a5fff8a761fa82a18c07363244f8cd', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.hold_users(uuid[])'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Inserts a batch in one statement: all of it, but for what is there already, or nothing. Each event has an id.
create or replace function usersync.insert_audit_events(events jsonb) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    stored bigint;
begin
    -- In the order of ids throughout, so that two who send the same events cannot wait for each other in a circle.
    with sent as materialized (
        -- The user that an event is linked to: the one it names, else its actor where that is a user. Said here and
        -- not in a function, which would be called for each event and take a seventh of what storing it takes.
        select
            each_event.*,
            coalesce(
                user_id,
                case
                    when coalesce(actor_type, 'user') = 'user'
                        and actor_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
                    then actor_id::uuid
                end
            ) as wanted
        from jsonb_populate_recordset(null::usersync.audit_event, insert_audit_events.events) as each_event
        order by id
    ),
    given as materialized (
        select * from sent where occurred_at is not null or not usersync.is_recorded(id)
    ),
    resolved as materialized (
        select user_id, problem
        from usersync.resolve_users(array(select distinct wanted from given where wanted is not null))
    )
    insert into "public"."audit_logs" ("id", "occurred_at", "recorded_at", "action", "outcome", "actor_id", "actor_type", "user_id", "entity_type", "entity_id", "changes", "metadata", "request_id", "ip", "user_agent", "source")
    select event.id, event.occurred_at, event.recorded_at, event.action, event.outcome, event.actor_id, event.actor_type, event.user_id, event.entity_type, event.entity_id, event.changes, event.metadata, event.request_id, event.ip, event.user_agent, event.source
    from (
        select
            given.id,
            coalesce(given.occurred_at, usersync.time_of_id(given.id), now()) as occurred_at,
            now() as recorded_at,
            given.action,
            coalesce(given.outcome, 'succeeded') as outcome,
            given.actor_id,
            coalesce(given.actor_type, case when given.actor_id is null then 'system' else 'user' end) as actor_type,
            case when resolved.problem is null then given.wanted end as user_id,
            given.entity_type,
            given.entity_id,
            given.changes,
            case
                when resolved.problem is null then coalesce(given.metadata, '{}')
                else coalesce(given.metadata, '{}')
                    || jsonb_build_object('original_user_id', given.wanted, 'user_sync_error', resolved.problem)
            end as metadata,
            given.request_id,
            given.ip,
            given.user_agent,
            coalesce(given.source, 'app') as source
        from given
        left join resolved on resolved.user_id = given.wanted
    ) as event
    order by event.id
    on conflict ("id", "occurred_at") do nothing;
    get diagnostics stored = row_count;
    -- Fewer than there are: the rest is there already, or a trigger of the application's let it vanish.
    if stored < jsonb_array_length(events) and exists (
        select from (
            select (each_event ->> 'id')::uuid as id from jsonb_array_elements(insert_audit_events.events) as each_event
        ) as given
        where not exists (select from "public"."audit_logs" as stored where stored."id" = given.id)
    ) then
        raise exception 'a trigger on the audit log returned null, and so kept the event out of it'
            using errcode = 'triggered_data_change_violation';
    end if;
    return stored;
end;
$usersync$;
comment on function usersync.insert_audit_events(jsonb) is
    'usersync: inserts a batch of events with their users, or raises.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.insert_audit_events(jsonb)', 'a7de2bf7cfe9717257a26fc11ba01dd1c4ff0e5f3ab2ffdc3e2f6aefb3b2b681', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.insert_audit_events(jsonb)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Whether an event that comes without its time is in the log already: the log's key has the time in it, and so
-- does not tell. Where two send it at once, the second waits until the first is through; it looks with eyes of
-- its own, and not with those of the statement that asks. Above READ COMMITTED it has those of its transaction,
-- and does not see what was committed since: there an event comes with its time, or may come twice.
create or replace function usersync.is_recorded(event_id uuid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    if event_id is null or usersync.time_of_id(event_id) is not null then
        return false;
    end if;
    -- One lock of 64, or a large batch would fill the lock table.
    perform pg_advisory_xact_lock(hashtext('usersync.is_recorded'), get_byte(uuid_send(event_id), 0) / 4);
    return exists (
        select from (select is_recorded.event_id as id) as given join "public"."audit_logs" as stored on stored."id" = given.id
    );
end;
$usersync$;
comment on function usersync.is_recorded(uuid) is
    'usersync: whether an event without a time is in the audit log.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.is_recorded(uuid)', 'f1401a6bdb94a87d50c43cc3995f2cca58fb04a3be61f25a3b661a26a2098a51', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.is_recorded(uuid)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Trigger on the audit log: append-only. Three may change it all the same: the foreign key, which unlinks a
-- user who is gone; retention and erasure, which say so for their own transaction, and only as the owner.
create or replace function usersync.keep_audit_logs() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    if current_setting('usersync.maintaining', true) = 'audit'
        and pg_has_role((select relowner from pg_class where oid = tg_relid), 'USAGE')
    then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    if tg_op = 'UPDATE' then
        if old.user_id is not null and new.user_id is null then
            new.user_id := old.user_id;
            if new is not distinct from old
                and not exists (select from "public"."users" as target where target."id" = old.user_id)
            then
                new.user_id := null;
                return new;
            end if;
        end if;
    end if;
    raise exception 'the audit log is append-only: % is refused', tg_op
        using errcode = 'insufficient_privilege',
            hint = case tg_op
                -- TRUNCATE ... CASCADE takes along whatever refers to the users, asked or not.
                when 'TRUNCATE' then 'TRUNCATE ... CASCADE of the users reaches the log: delete the users instead. '
                    'To empty the log of a database made for tests: set usersync.maintaining = ''audit'''
                else 'For retention use "usersync audit prune".'
            end;
end;
$usersync$;
comment on function usersync.keep_audit_logs() is 'usersync: keeps the audit log append-only.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.keep_audit_logs()', '9d61321a026a84da309d8119e180e33e8cec7740c3b0a764efa5bff6d32c95a7', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.keep_audit_logs()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- How many users are in the ledger, since when, and what the last reconciling run came to.
create or replace function usersync.ledger_status() returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return (
        select jsonb_build_object(
            'degraded', count(*) filter (where failure.outcome = 'degraded'),
            'failed', count(*) filter (where failure.outcome = 'failed'),
            'oldest_failure_at', min(failure.first_failed_at)
        )
        from usersync.sync_failures as failure
    ) || jsonb_build_object(
        'by_sqlstate', (
            select coalesce(jsonb_object_agg(counted.sqlstate, counted.users), '{}')
            from (
                select failure.sqlstate, count(*) as users from usersync.sync_failures as failure group by 1
            ) as counted
        )
    ) || jsonb_build_object(
        'last_run', (
            select jsonb_build_object(
                'run_id', run.run_id,
                'finished', bool_and(run.state = 'finished'),
                'updated_at', max(run.updated_at),
                'examined', sum(run.examined)
            )
            from usersync.sync_runs as run
            group by run.run_id
            order by max(run.updated_at) desc
            limit 1
        ),
        'observed_at', clock_timestamp()
    );
end;
$usersync$;
comment on function usersync.ledger_status() is
    'usersync: how many users are in the ledger, since when, and what the last reconciling run came to.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.ledger_status()', 'bfd406c0e713742f8b970a0618829d71140ade21e70fbd3fa9d1db8a2a6d2444', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.ledger_status()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- A page of the ledger, the oldest failure first: it begins after the one that is named by its time and user.
create or replace function usersync.list_failures(
    user_id uuid, after_time timestamptz, after_id uuid, page_size integer
) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(page) order by page.first_failed_at, page.user_id), '[]')
        from (
            select
                failure.user_id,
                failure.outcome,
                failure.sqlstate,
                failure.constraint_name as "constraint",
                failure.column_name as "column",
                failure.message,
                failure.raised_in,
                failure.attempts,
                failure.first_failed_at,
                failure.last_failed_at
            from usersync.sync_failures as failure
            where (list_failures.user_id is null or failure.user_id = list_failures.user_id)
                and (
                    list_failures.after_time is null
                    or (failure.first_failed_at, failure.user_id) > (list_failures.after_time, list_failures.after_id)
                )
            order by failure.first_failed_at, failure.user_id
            limit list_failures.page_size
        ) as page
    );
end;
$usersync$;
comment on function usersync.list_failures(uuid, timestamp with time zone, uuid, integer) is
    'usersync: a page of the ledger, the oldest failure first.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.list_failures(uuid, timestamp with time zone, uuid, integer)', '0115ae51bb4e91b71c043954c480128ec94d27063fabffa1f8795226a8b5b1db', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.list_failures(uuid, timestamp with time zone, uuid, integer)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Makes the partition of one month, and takes its rows over from the default one if they are few enough; "most" is
-- how many may be taken, and null is any number, for whoever asks by hand, at a quiet hour. Returns whether it is
-- there now. Else its caller holds the locks.
create or replace function usersync.make_audit_partition(month date, most integer default 10000) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $usersync$
declare
    name text := 'audit_logs_' || to_char(month, 'YYYY_MM');
    first_moment timestamptz := month;
    end_moment timestamptz := month + interval '1 month';
begin
    if to_regclass('usersync.' || name) is not null then
        return true;
    end if;
    if (
        select count(*) > most from (
            select from usersync.audit_logs_default as stored
            where stored.occurred_at >= first_moment and stored.occurred_at < end_moment limit most + 1
        ) as few
    ) then
        return false;
    end if;
    if most is null then
        lock table usersync.audit_logs_default in access exclusive mode;
    end if;
    -- Attached, and not created as a partition, which would lock the log against writes.
    execute format('create table usersync.%I (like %s including defaults including constraints)', name, '"public"."audit_logs"');
    perform set_config('usersync.maintaining', 'audit', true);
    execute format(
        'with moved as (delete from usersync.audit_logs_default where occurred_at >= $1 and occurred_at < $2 returning *) '
        'insert into usersync.%I select * from moved', name) using first_moment, end_moment;
    perform set_config('usersync.maintaining', '', true);
    execute format(
        'alter table %s attach partition usersync.%I for values from (%L) to (%L)',
        '"public"."audit_logs"', name, first_moment, end_moment);
    perform usersync.guard_audit_partitions();
    return true;
exception when others then
    if most is null then
        raise;
    end if;
    -- Whatever it is, the default partition takes the rows, and next time is soon.
    return false;
end;
$usersync$;
comment on function usersync.make_audit_partition(date, integer) is 'usersync: makes the audit log''s partition for a month.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.make_audit_partition(date, integer)', 'c2542eb8fc16de87b66303e68fdc866fb359d29c79168b6fbb334c7eac016e19', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.make_audit_partition(date, integer)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Makes the partitions of this month and of those ahead, where the log is ours and they are missing; returns how
-- many. Called again and again, so never worth waiting or failing for: what has no partition goes to the
-- default one.
--
-- None is made while the default partition is large, because each makes the server read all of it under these
-- locks: 16 MB are some 40,000 events, and take a slow disk a third of a second.
--
-- All locks are taken first, and only if nobody is in the way: an attempt that fails has then written nothing
-- to the catalog. The last one, which the foreign key needs, keeps everybody from writing users until the
-- transaction ends.
create or replace function usersync.make_audit_partitions(ahead integer default 2) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $usersync$
declare
    months date[] := array(
        select each_month
        from generate_series(date_trunc('month', now()), now() + make_interval(months => ahead), interval '1 month')
            as each_month
        where to_regclass('usersync.audit_logs_' || to_char(each_month, 'YYYY_MM')) is null
    );
    month date;
    made integer := 0;
begin
    if cardinality(months) = 0 or not exists (
        select from pg_inherits
        where inhrelid = to_regclass('usersync.audit_logs_default') and inhparent = to_regclass('"public"."audit_logs"')
    ) then
        return 0;
    end if;
    if pg_relation_size('usersync.audit_logs_default') > 16 * 1024 * 1024 then
        return 0;
    end if;
    lock table only "public"."audit_logs" in share update exclusive mode nowait;
    lock table usersync.audit_logs_default in access exclusive mode nowait;
    lock table "public"."users" in share row exclusive mode nowait;
    foreach month in array months loop
        made := made + usersync.make_audit_partition(month)::integer;
    end loop;
    return made;
exception when others then
    return 0;
end;
$usersync$;
comment on function usersync.make_audit_partitions(integer) is
    'usersync: makes the audit log''s partitions for the months ahead.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.make_audit_partitions(integer)', '75feddb2bc2bce2efbbaec5669f8f58a781f3d5c19656fe38952779238186273', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.make_audit_partitions(integer)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- The first column whose value does not fit its type. PostgreSQL names the value in such an error, and not
-- the column, so each one is tried alone.
create or replace function usersync.misfit_column(user_id uuid) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    name text;
    expression text;
begin
    for name, expression in
        select mapped.name, mapped.expression
        from unnest(array['id', 'email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at'], array['source."id"', 'source."email"', 'source."phone"', 'coalesce(source."raw_user_meta_data" -> ''full_name'', source."raw_user_meta_data" -> ''name'') #>> ''{}''', 'coalesce(source."raw_user_meta_data" -> ''avatar_url'', source."raw_user_meta_data" -> ''picture'') #>> ''{}''', 'source."is_anonymous"', 'source."email_confirmed_at"', 'source."phone_confirmed_at"', 'source."banned_until"', 'source."created_at"', 'source."deleted_at"']) as mapped (name, expression)
    loop
        begin
            execute format(
                'select (jsonb_populate_record(null::%s, jsonb_build_object(%L, %s))).%I from %s as source '
                'where source."id" = $1',
                '"public"."users"', name, expression, name, '"auth"."users"'
            ) using user_id;
        exception when others then
            return name;
        end;
    end loop;
    return null;
end;
$usersync$;
comment on function usersync.misfit_column(uuid) is
    'usersync: names the column that a value of this user does not fit into.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.misfit_column(uuid)', '2543905fef72fa9ac9546d39ee8dec64ab42694f43963625b187e47101d623d4', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.misfit_column(uuid)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Looks at rows that were just written, notes in the ledger those that are not what they should be, and returns
-- their users. What was written stays, whether or not this can be noted.
create or replace function usersync.note_unlike_users(ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    alike record;
    unlike uuid[] := '{}'::uuid[];
begin
    for alike in
        select array_agg(found.user_id) as ids, found.sqlstate, found.column_names, found.message
        from usersync.unlike_users(note_unlike_users.ids) as found
        group by found.sqlstate, found.column_names, found.message
    loop
        unlike := unlike || alike.ids;
        perform usersync.record_failures(alike.ids, alike.sqlstate, null, alike.column_names, alike.message, null);
    end loop;
    return unlike;
exception when others then
    raise warning 'usersync: % user(s) are not as they were written, and the ledger could not be written',
        cardinality(unlike)
        using detail = format('Users: %s. The ledger: %s %s.',
            left(array_to_string(unlike, ', '), 1000), sqlstate, sqlerrm);
    return unlike;
end;
$usersync$;
comment on function usersync.note_unlike_users(uuid[]) is
    'usersync: notes which of these users have rows that differ from what was written.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.note_unlike_users(uuid[])', '7f013462e52f0c72568f663251b16d49bd9656b2b033ee2212f345b4cabe325e', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.note_unlike_users(uuid[])'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- What stands in a column that should be emptied: null, or where the column refuses null, something that
-- names nobody. Unique per user; .invalid is reserved by RFC 2606 and can never receive mail.
create or replace function usersync.placeholder(column_name text, user_id uuid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return (
        select case
            when typname = 'uuid' then placeholder.user_id::text
            when typcategory = 'S' and atttypmod > 4
                then left('deleted-' || placeholder.user_id || '@users.invalid', atttypmod - 4)
            when typcategory = 'S' then 'deleted-' || placeholder.user_id || '@users.invalid'
            when typcategory = 'E' then (
                select enumlabel::text from pg_enum where enumtypid = atttypid order by enumsortorder limit 1
            )
            else case typcategory
                when 'B' then 'false'
                when 'N' then '0'
                when 'D' then 'epoch'
                else '{}'
            end
        end
        from pg_attribute
        join pg_type on pg_type.oid = atttypid
        where attrelid = '"public"."users"'::regclass
            and attname = placeholder.column_name
            and (attnotnull or typnotnull)
    );
end;
$usersync$;
comment on function usersync.placeholder(text, uuid) is
    'usersync: what a personal column of a deleted user holds: null, unless the column refuses null.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.placeholder(text, uuid)', '70816426e1da725559b4a68c637c89ad67be615072f76e16441c2989598e7ec1', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.placeholder(text, uuid)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- The function of the application that raised, from an error's context: null where a statement of ours did.
-- Only its name, and only what ran below us: the rest of a context may quote values.
create or replace function usersync.raised_below(error_context text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
    select substring(
        split_part(error_context, 'PL/pgSQL function usersync.', 1) from '(?:PL/pgSQL|SQL) function ([^\n]{1,200})'
    );
$usersync$;
comment on function usersync.raised_below(text) is
    'usersync: which function of the application raised, if one did.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.raised_below(text)', '704261c53d6abcf6b1280e8faa26b6bd75dfc2d69fbd82eec42ef22432583cf8', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.raised_below(text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Takes users as the auth server's admin API tells them into the copy of its table; from there the triggers take
-- them on. What was told of a user before and is newer stays. Returns how many rows were written.
create or replace function usersync.receive_users(users jsonb, seen_at timestamptz) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    written bigint;
begin
    if '"auth"."users"'::regclass is distinct from to_regclass('usersync.auth_users') then
        raise exception 'this database reads users from %, and needs no copy of them', '"auth"."users"'::regclass
            using errcode = 'US101', hint = 'For an auth server with a database of its own, set source_table = '
                '"usersync.auth_users" and run: usersync apply';
    end if;
    update usersync.auth_users as stored set seen_at = receive_users.seen_at
    where stored.id in (select (told.one ->> 'id')::uuid from jsonb_array_elements(users) as told (one))
        and stored.seen_at < receive_users.seen_at;
    insert into usersync.auth_users as stored (
        id, aud, role, email, email_confirmed_at, invited_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data,
        created_at, updated_at, phone, phone_confirmed_at, confirmed_at, banned_until, deleted_at, is_anonymous, seen_at
    )
    select distinct on (told.id)
        told.id, nullif(told.aud, ''), nullif(told.role, ''), nullif(told.email, ''), told.email_confirmed_at,
        told.invited_at, told.last_sign_in_at, told.app_metadata, told.user_metadata, told.created_at,
        told.updated_at, nullif(told.phone, ''), told.phone_confirmed_at, told.confirmed_at, told.banned_until,
        told.deleted_at, coalesce(told.is_anonymous, false), receive_users.seen_at
    from jsonb_to_recordset(users) as told (
        id uuid, aud text, role text, email text, email_confirmed_at timestamptz, invited_at timestamptz,
        last_sign_in_at timestamptz, app_metadata jsonb, user_metadata jsonb, created_at timestamptz,
        updated_at timestamptz, phone text, phone_confirmed_at timestamptz, confirmed_at timestamptz,
        banned_until timestamptz, deleted_at timestamptz, is_anonymous boolean
    )
    order by told.id, told.updated_at desc nulls last
    on conflict (id) do update set
        aud = excluded.aud,
        role = excluded.role,
        email = excluded.email,
        email_confirmed_at = excluded.email_confirmed_at,
        invited_at = excluded.invited_at,
        last_sign_in_at = excluded.last_sign_in_at,
        raw_app_meta_data = excluded.raw_app_meta_data,
        raw_user_meta_data = excluded.raw_user_meta_data,
        created_at = excluded.created_at,
        updated_at = excluded.updated_at,
        phone = excluded.phone,
        phone_confirmed_at = excluded.phone_confirmed_at,
        confirmed_at = excluded.confirmed_at,
        banned_until = excluded.banned_until,
        deleted_at = excluded.deleted_at,
        is_anonymous = excluded.is_anonymous
    where (stored.updated_at is null or excluded.updated_at >= stored.updated_at)
        and to_jsonb(stored) - 'seen_at' is distinct from to_jsonb(excluded) - 'seen_at';
    get diagnostics written = row_count;
    return written;
end;
$usersync$;
comment on function usersync.receive_users(jsonb, timestamp with time zone) is
    'usersync: takes users as the admin API tells them into the copy of the auth server''s table.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.receive_users(jsonb, timestamp with time zone)', '7ae561970a9ee71ca44dd74ac97236918de8f486ed52a3a429e1da9ee6918fc9', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.receive_users(jsonb, timestamp with time zone)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- One page of comparing both tables, and unless dry_run, of bringing the one in line. A page is a range of
-- ids: it begins at first_id, ends with last_id at the latest, and holds page_size rows of the longer side.
-- next_id is where the next page begins, null after the last one.
--
-- Whatever the planner believes about the tables' sizes, an empty one that was analyzed included, it is to
-- walk both primary keys: hence no sequential scans, and a full join, which has no nested loop to offer.
create or replace function usersync.reconcile_page(
    first_id uuid,
    last_id uuid,
    page_size integer,
    dry_run boolean,
    out next_id uuid,
    out examined bigint,
    out auth_users bigint,
    out users bigint,
    out missing bigint,
    out stale bigint,
    out orphaned bigint,
    out degraded bigint,
    out failed bigint,
    out oldest_missing timestamptz,
    out differences jsonb
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
as $usersync$
#variable_conflict use_column
declare
    page_end uuid;
    is_empty boolean;
    ledger_ids uuid[];
    differing_ids uuid[];
    stale_ids uuid[];
begin
    page_end := least(
        (
            select source."id" from "auth"."users" as source
            where source."id" >= reconcile_page.first_id
            order by source."id" offset reconcile_page.page_size - 1 limit 1
        ),
        (
            select target."id" from "public"."users" as target
            where target."id" >= reconcile_page.first_id
            order by target."id" offset reconcile_page.page_size - 1 limit 1
        ),
        reconcile_page.last_id
    );
    if page_end < reconcile_page.last_id then
        reconcile_page.next_id := least(
            (
                select source."id" from "auth"."users" as source
                where source."id" > page_end order by source."id" limit 1
            ),
            (
                select target."id" from "public"."users" as target
                where target."id" > page_end order by target."id" limit 1
            )
        );
        if reconcile_page.next_id > reconcile_page.last_id then
            reconcile_page.next_id := null;
        end if;
    end if;
    -- The ledger may name users whom neither table has: they belong to the page that they follow.
    ledger_ids := array(
        select failure.user_id from usersync.sync_failures as failure
        where failure.user_id between reconcile_page.first_id and coalesce(reconcile_page.next_id, reconcile_page.last_id)
            and failure.user_id is distinct from reconcile_page.next_id
    );

    is_empty := not reconcile_page.dry_run and not exists (
        select from "public"."users" as target
        where target."id" between reconcile_page.first_id and page_end
    );
    if is_empty then
        -- Nobody here has a row, as in a first run: there is nothing to compare, and the index alone has the ids.
        differing_ids := array(
            select source."id" from "auth"."users" as source
            where source."id" between reconcile_page.first_id and page_end
        );
        reconcile_page.examined := cardinality(differing_ids);
        reconcile_page.stale := 0;
        reconcile_page.orphaned := 0;
    else
        select
            count(*),
            count(*) filter (where compared.is_live),
            count(*) filter (where compared.has_row),
            count(*) filter (where compared.class = 'missing'),
            count(*) filter (where compared.class = 'stale'),
            count(*) filter (where compared.class = 'orphaned'),
            min(compared.created_at) filter (where compared.class = 'missing'),
            array_agg(compared.user_id) filter (where compared.class is not null),
            array_agg(compared.user_id) filter (where compared.class = 'stale'),
            jsonb_agg(
                jsonb_build_object('user_id', compared.user_id, 'class', compared.class, 'columns', compared.columns)
                order by compared.user_id
            ) filter (where compared.columns is not null)
        into
            reconcile_page.examined,
            reconcile_page.auth_users,
            reconcile_page.users,
            reconcile_page.missing,
            reconcile_page.stale,
            reconcile_page.orphaned,
            reconcile_page.oldest_missing,
            differing_ids,
            stale_ids,
            reconcile_page.differences
        from (
            select
                classified.*,
                case
                    when not reconcile_page.dry_run or classified.class is null then null
                    when classified.class = 'stale' then classified.differing
                    else '{}'
                end as columns
            from (
                select
                    coalesce(source."id", target."id") as user_id,
                    source."id" is not null and source."deleted_at" is null as is_live,
                    target."id" is not null as has_row,
                    source."created_at" as created_at,
                    array_remove(array[case when target."email" is distinct from source."email" then 'email' end, case when target."phone" is distinct from source."phone" then 'phone' end, case when target."full_name" is distinct from coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}' then 'full_name' end, case when target."avatar_url" is distinct from coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}' then 'avatar_url' end, case when target."is_anonymous" is distinct from source."is_anonymous" then 'is_anonymous' end, case when target."email_confirmed_at" is distinct from source."email_confirmed_at" then 'email_confirmed_at' end, case when target."phone_confirmed_at" is distinct from source."phone_confirmed_at" then 'phone_confirmed_at' end, case when target."banned_until" is distinct from source."banned_until" then 'banned_until' end, case when target."created_at" is distinct from source."created_at" then 'created_at' end, case when target."deleted_at" is distinct from source."deleted_at" then 'deleted_at' end]::text[], null) as differing,
                    case
                        when source."id" is null or source."deleted_at" is not null then
                            case when target."id" is not null and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true then 'orphaned' end
                        when target."id" is null then 'missing'
                        when row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at") then 'stale'
                    end as class
                from (
                    select source.* from "auth"."users" as source
                    where source."id" between reconcile_page.first_id and page_end
                ) as source
                full join (
                    select target.* from "public"."users" as target
                    where target."id" between reconcile_page.first_id and page_end
                ) as target on target."id" = source."id"
            ) as classified
            offset 0
        ) as compared;
    end if;

    if not reconcile_page.dry_run then
        if cardinality(ledger_ids) > 0 then
            -- What a trigger of the application turned into something else would only be turned again: such users
            -- wait until the trigger, or either side's values, have changed.
            differing_ids := array(
                select unnest(differing_ids)
                union
                select unnest(ledger_ids)
                except
                select unlike.user_id
                from usersync.unlike_users(array(
                    select failure.user_id from usersync.sync_failures as failure
                    where failure.user_id = any(ledger_ids) and failure.sqlstate = 'US001'
                )) as unlike
                join usersync.sync_failures as failure using (user_id, sqlstate, message)
                where unlike.sqlstate = 'US001'
            );
        end if;
        perform usersync.sync_users(differing_ids, 'PAGE');
        -- PostgreSQL itself may store something else than it was given, a text cut to its column's length.
        perform usersync.note_unlike_users(array(
            select unnest(stale_ids)
            except
            select failure.user_id from usersync.sync_failures as failure where failure.user_id = any(stale_ids)
        ));
    end if;

    if is_empty then
        -- Whoever has a row by now, or was refused one; the others are deleted.
        reconcile_page.missing := (
            select count(*) from "public"."users" as target
            where target."id" between reconcile_page.first_id and page_end
        ) + (
            select count(*) from usersync.sync_failures as failure
            where failure.user_id = any(differing_ids) and failure.outcome = 'failed'
        );
    end if;
    select
        count(*) filter (where failure.outcome = 'degraded'),
        count(*) filter (where failure.outcome = 'failed')
    into reconcile_page.degraded, reconcile_page.failed
    from usersync.sync_failures as failure
    where failure.user_id between reconcile_page.first_id and coalesce(reconcile_page.next_id, reconcile_page.last_id)
        and failure.user_id is distinct from reconcile_page.next_id;
end;
$usersync$;
comment on function usersync.reconcile_page(uuid, uuid, integer, boolean) is
    'usersync: compares one page of both tables and brings the users table in line.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.reconcile_page(uuid, uuid, integer, boolean)', '5dc77b021486b30b4a5f6f794e697778f2698d9411dc981da3c3f7d00b22cefc', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.reconcile_page(uuid, uuid, integer, boolean)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- The one way into the audit log: an array of events in, how many were stored out. The users come first, in
-- the same transaction. What an event contains never makes this raise; see usersync.audit_rejects. Sending a
-- batch again stores nothing twice.
--
-- An empty batch makes the partitions of the months ahead, and so does a call through the Data API, each of which
-- is a transaction. No other does: the locks last until the transaction ends, and that may be the application's.
create or replace function public.record_audit_events(events jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    makes_partitions boolean := pg_current_xact_id_if_assigned() is null
        and (events = '[]' or current_setting('request.path', true) = '/rpc/record_audit_events');
    result record;
    rejects jsonb;
begin
    if events is null or jsonb_typeof(events) <> 'array' then
        raise exception 'expected a JSON array of events' using errcode = 'invalid_parameter_value';
    end if;
    if jsonb_path_exists(events, '$[*] ? (!exists(@.id) || @.id == null)') then
        -- By it an event is found again. What comes without one comes without a time as well, most likely.
        events := (
            select jsonb_agg(
                case
                    when jsonb_typeof(event) <> 'object' or event ->> 'id' is not null then event
                    else jsonb_build_object('occurred_at', now()) || event || jsonb_build_object('id', gen_random_uuid())
                end
                order by position)
            from jsonb_array_elements(events) with ordinality as given (event, position)
        );
    end if;
    result := usersync.store_audit_events(events);
    if makes_partitions then
        -- Last, because it locks the users table against writes until the transaction ends.
        perform usersync.make_audit_partitions();
    end if;
    if result.rejected > 0 then
        -- For whoever rolls back and cannot look them up then. A few are enough to know what is wrong.
        select jsonb_agg(jsonb_build_object('id', few.event -> 'id', 'action', few.event -> 'action', 'reason', few.reason))
        into rejects
        from (
            select put_aside.event, put_aside.reason
            from jsonb_array_elements(events) as sent
            join usersync.audit_rejects as put_aside
                on put_aside.fingerprint = sha256(convert_to(sent::text, 'UTF8'))
            limit 5
        ) as few;
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'stored', result.stored,
        'duplicates', jsonb_array_length(events) - result.stored - result.rejected,
        'rejected', result.rejected,
        'rejects', rejects
    ));
end;
$usersync$;
comment on function public.record_audit_events(jsonb) is
    'usersync: stores a JSON array of audit events, each exactly once.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'public.record_audit_events(jsonb)', 'd9b750f94d0f1d1ea8b4b9c67e978849d7116d7464b597d5660803674200ce1a', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'public.record_audit_events(jsonb)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Writes the ledger. A user who has a row all the same is degraded, one who has none has failed.
-- A message is kept without what personal data it may quote: addresses, and the value that did not fit a type.
create or replace function usersync.record_failures(
    ids uuid[], reason text, failed_constraint text, failed_column text, error_message text, raised_in text
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    present uuid[] := '{}'::uuid[];
begin
    begin
        present := array(
            select users."id"
            from "public"."users" as users
            where users."id" = any(record_failures.ids) and (
                select true from "auth"."users" as source
                where source."id" = users."id" and source."deleted_at" is null
            )
        );
    exception when others then
        null;  -- No table, no rows.
    end;
    insert into usersync.sync_failures as failure
        (user_id, outcome, sqlstate, constraint_name, column_name, message, raised_in)
    select
        id,
        case when id = any(present) then 'degraded' else 'failed' end,
        reason,
        -- A trigger can raise with any name that it likes, an address for instance.
        usersync.without_values(reason, failed_constraint),
        usersync.without_values(reason, failed_column),
        usersync.without_values(reason, error_message),
        record_failures.raised_in
    from unnest(ids) as id
    on conflict (user_id) do update set
        outcome = excluded.outcome,
        sqlstate = excluded.sqlstate,
        constraint_name = excluded.constraint_name,
        column_name = excluded.column_name,
        message = excluded.message,
        raised_in = excluded.raised_in,
        attempts = failure.attempts + 1,
        last_failed_at = now();
end;
$usersync$;
comment on function usersync.record_failures(uuid[], text, text, text, text, text) is
    'usersync: notes in the ledger why these users could not be synced.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.record_failures(uuid[], text, text, text, text, text)', '2b2b9df5e1944650e86c79cfd26665e3adc87c607f4115575529d76d1713e609', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.record_failures(uuid[], text, text, text, text, text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Raises if one of these users, whose rows are about to be deleted, has so many events that unlinking them would
-- hold up the auth server: 5,000 take a quarter of a second, and each of them is a row to be written. They are
-- unlinked in batches by "usersync retry", which finds the user in the ledger.
create or replace function usersync.refuse_users_with_many_events(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    many boolean;
begin
    begin
        many := exists (
            select from unnest(ids) as going (id)
            where not exists (
                select from "auth"."users" as source where source."id" = going.id and source."deleted_at" is null
            ) and exists (select from "public"."audit_logs" as stored where stored."user_id" = going.id offset 5000)
        );
    exception when undefined_table or undefined_column then
        return;
    end;
    if many then
        raise exception 'more than 5000 audit events are linked to the user; "usersync retry" unlinks them first'
            using errcode = 'object_in_use';
    end if;
end;
$usersync$;
comment on function usersync.refuse_users_with_many_events(uuid[]) is
    'usersync: keeps the deletion of a user with very many audit events out of the auth server''s transaction.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.refuse_users_with_many_events(uuid[])', 'cfa145bcd533fa7764f4b7387fc93e598a84b8667b9d243fb700000c1f2a3510', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.refuse_users_with_many_events(uuid[])'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Puts an event aside. One that has an id is put aside once, however often it is sent.
create or replace function usersync.reject_audit_event(event jsonb, code text, reason text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $usersync$
insert into usersync.audit_rejects (event, sqlstate, reason, fingerprint)
values (
    event, code, left(reason, 500), case when event ? 'id' then sha256(convert_to(event::text, 'UTF8')) end
)
on conflict do nothing
$usersync$;
comment on function usersync.reject_audit_event(jsonb, text, text) is
    'usersync: puts an event aside that cannot be stored.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.reject_audit_event(jsonb, text, text)', 'c418fada5dbc42002e639c900c4529c0cbd4c60fea360343b23adc902b424693', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.reject_audit_event(jsonb, text, text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Removes a trigger from the auth server's table, which is not ours. To drop a trigger takes the table's owner; to
-- replace one, only the right to create triggers; and a function goes with its triggers. So it is made a trigger of
-- a function of ours first. Called when usersync is installed and taken back, by the role that does that.
create or replace function usersync.remove_trigger(trigger_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set client_min_messages = warning
as $usersync$
begin
    create function usersync.nothing() returns trigger language plpgsql set search_path = pg_catalog, pg_temp
        as 'begin return null; end';
    execute format(
        'create or replace trigger %I before insert on %s for each statement execute function usersync.nothing()',
        trigger_name, '"auth"."users"'
    );
    drop function usersync.nothing() cascade;
end;
$usersync$;
comment on function usersync.remove_trigger(text) is
    'usersync: removes a trigger from the auth server''s table without being its owner.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.remove_trigger(text)', 'af5cc69c485403a6fff2c60ebdc7a1834b0363e85be618e9d3b8f6ecb3160bd5', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.remove_trigger(text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- What on_delete makes of rows whose user is gone from the auth server's table, by DELETE or by its soft
-- delete. Touches no row of a user who is there.
create or replace function usersync.remove_users(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    if 'anonymize' = 'keep' then
        return;
    end if;
    -- Once the rows are held, a statement of its own sees what the auth server's table holds by now. Whoever has
    -- just referenced a row does not stand in the way of emptying it.
    perform from "public"."users" as target where target."id" = any(remove_users.ids) for no key update;

    if 'anonymize' = 'delete' then
        perform usersync.refuse_users_with_many_events(remove_users.ids);
        delete from "public"."users" as target
        where target."id" = any(remove_users.ids)
            and (
                select true from "auth"."users" as source
                where source."id" = target."id" and source."deleted_at" is null
            ) is null;
        return;
    end if;
    update "public"."users" as target
    set ("deleted_at", "email", "phone", "full_name", "avatar_url") = row(coalesce(target."deleted_at", (select source."deleted_at" from "auth"."users" as source where source."id" = target."id"), now()), usersync.placeholder('email', target."id"), usersync.placeholder('phone', target."id"), usersync.placeholder('full_name', target."id"), usersync.placeholder('avatar_url', target."id"))
    where target."id" = any(remove_users.ids)
        and (
            select true from "auth"."users" as source
            where source."id" = target."id" and source."deleted_at" is null
        ) is null
        and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true;
end;
$usersync$;
comment on function usersync.remove_users(uuid[]) is
    'usersync: applies on_delete to the rows of users who are gone.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.remove_users(uuid[])', 'aab34ec65d3f6125954196fd4da7c837514c984599ed8658e445c8bf6f7a004c', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.remove_users(uuid[])'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Makes sure that these users have rows, as far as can be, and holds the rows, so that a foreign key to them
-- is good until the transaction ends. Returns each user, with the problem where there is no row to point at.
--
-- Raises nothing, unless usersync.user_links says that whoever sends the events can wait: set to wait, a user who
-- is only locked is raised for, to be tried again. Set to give_up, users are linked as far as they have rows, and
-- none is made; whatever the application's triggers do then, they do not do it here.
create or replace function usersync.resolve_users(ids uuid[]) returns table (user_id uuid, problem text)
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    present uuid[];
    absent uuid[];
    problems text[];
    trouble text;
    given_up boolean := current_setting('usersync.user_links', true) = 'give_up';
begin
    select holding.held, holding.problem into present, trouble from usersync.hold_users(ids) as holding;
    begin
        if given_up then
            trouble := coalesce(trouble, 'given up after several attempts');
        elsif cardinality(present) < cardinality(ids) then
            absent := array(
                select unnest(ids)
                except select target."id" from "public"."users" as target where target."id" = any(resolve_users.ids)
            );
            perform usersync.sync_users(absent);
            present := present || (select holding.held from usersync.hold_users(absent) as holding);
        end if;
        absent := array(select unnest(ids) except select unnest(present));
        if cardinality(absent) > 0 then
            problems := array(
                select coalesce(
                    failure.sqlstate || ' ' || failure.message,
                    case
                        when source."id" is null then 'the auth server has no such user'
                        when source."deleted_at" is not null then 'the user is deleted'
                    end,
                    trouble,
                    'the user has no row, and syncing neither made one nor failed')
                from unnest(absent) with ordinality as wanted (id, position)
                left join usersync.sync_failures as failure
                    on failure.user_id = wanted.id and failure.outcome = 'failed'
                left join "auth"."users" as source on source."id" = wanted.id
                order by wanted.position
            );
        end if;
    exception when others or assert_failure then
        trouble := coalesce(trouble, sqlstate || ' ' || sqlerrm);
        absent := array(select unnest(ids) except select unnest(present));
        problems := array_fill(trouble, array[cardinality(absent)]);
    end;
    if current_setting('usersync.user_links', true) = 'wait' then
        select each_problem into trouble from unnest(problems) as each_problem where each_problem like '55P03 %' limit 1;
        if found then
            raise exception using errcode = '55P03', message = substr(trouble, 7);
        end if;
    end if;
    return query
    select held.id, null::text from unnest(present) as held (id)
    union all
    select lacking.id, lacking.problem from unnest(absent, problems) as lacking (id, problem);
end;
$usersync$;
comment on function usersync.resolve_users(uuid[]) is
    'usersync: makes sure that these users have rows, and says what is wrong with those who have none.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.resolve_users(uuid[])', '20abb45276897380fd0184b87ab905faf17fa4a22720d976b259281b84c18f30', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.resolve_users(uuid[])'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- What is kept of a long text: the beginning, and a marker with the hash of the whole. The same as what the
-- Python side makes of it.
create or replace function usersync.shorten_text(given text, kept integer) returns text
language sql immutable parallel safe strict
set search_path = pg_catalog, pg_temp
as $usersync$
select case
    when length(given) <= kept then given
    else left(given, kept) || '… [cut: ' || length(given) || ' characters, sha256 '
        || encode(sha256(convert_to(given, 'UTF8')), 'hex') || ']'
end
$usersync$;
comment on function usersync.shorten_text(text, integer) is 'usersync: what the audit log keeps of a long text.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.shorten_text(text, integer)', '2515c8d6cac9fa6641bbeacd17287b9efb0ec4c72a8cb73ce6faa802a09ca5ff', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.shorten_text(text, integer)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Puts aside the events that are none, and returns the others in their order.
create or replace function usersync.sift_audit_events(events jsonb, out good jsonb, out rejected bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    judged record;
    left_over jsonb[] := '{}'::jsonb[];
begin
    rejected := 0;
    for judged in
        select event, fault.code, fault.reason
        from jsonb_array_elements(events) as event
        cross join lateral usersync.fault_of_event(event) as fault
    loop
        if judged.code is null then
            left_over := left_over || judged.event;
        else
            perform usersync.reject_audit_event(judged.event, judged.code, judged.reason);
            rejected := rejected + 1;
        end if;
    end loop;
    good := to_jsonb(left_over);
end;
$usersync$;
comment on function usersync.sift_audit_events(jsonb) is
    'usersync: puts aside the events that are malformed, and returns the others.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.sift_audit_events(jsonb)', '9c161adc3641c3f6b92cbf6ccfcbd1f801230120264fbe27170119ddb23ecccd', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.sift_audit_events(jsonb)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Opens a reconciling run of one part for each range of ids, and forgets runs of three months ago. Its id is the
-- caller's to choose, so that one who got no answer can ask again. examined: how many users were looked at, where
-- nothing differs and there is nothing left to do.
create or replace function usersync.start_run(
    run_id uuid, first_ids uuid[], last_ids uuid[], page_size integer, examined bigint default null
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    delete from usersync.sync_runs as run where run.updated_at < now() - interval '90 days';
    insert into usersync.sync_runs (run_id, part, part_count, state, next_id, last_id, page_size, examined)
    select
        start_run.run_id,
        range.part,
        cardinality(start_run.first_ids),
        case when start_run.examined is null then 'running' else 'finished' end,
        case when start_run.examined is null then range.first_id end,
        range.last_id,
        start_run.page_size,
        coalesce(start_run.examined, 0)
    from unnest(start_run.first_ids, start_run.last_ids) with ordinality as range (first_id, last_id, part)
    on conflict (run_id, part) do nothing;
end;
$usersync$;
comment on function usersync.start_run(uuid, uuid[], uuid[], integer, bigint) is 'usersync: opens a reconciling run.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.start_run(uuid, uuid[], uuid[], integer, bigint)', '7b26c0b125f69b37e72a174edf48b5d6a6f7f368f746de91cb7a06185bdbd3c1', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.start_run(uuid, uuid[], uuid[], integer, bigint)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Stores a batch, and puts aside what cannot be stored because of what it contains. Raises for the database's
-- own troubles only: those are worth trying again.
--
-- If the batch fails, each event is looked at alone (sifted), and the good ones are stored at once. Only what
-- a constraint or a trigger of the application's own refuses is left to be found by halving.
--
-- lock_timeout: while somebody alters the users table, even an event that is linked to nobody has to wait, for
-- that is how PostgreSQL checks a foreign key. Better to come again than to hold up who is in a hurry.
create or replace function usersync.store_audit_events(
    events jsonb, sifted boolean default false, out stored bigint, out rejected bigint
)
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set lock_timeout = '2s'
as $usersync$
#variable_conflict use_variable
declare
    half integer := jsonb_array_length(events) / 2;
    reason text;
    failed_constraint text;
    failed_table text;
    error_message text;
    good jsonb := '[]'::jsonb;
begin
    rejected := 0;
    for attempt in 1..2 loop
        begin
            stored := usersync.insert_audit_events(events);
            return;
        exception when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate, failed_constraint = constraint_name, failed_table = table_name,
                error_message = message_text;
        end;
        -- A table's check that has no name is that of a partition, and says that there is none for this time.
        -- If somebody made one meanwhile, there is the second time.
        exit when reason <> '23514' or failed_constraint <> '' or failed_table = '';
        if attempt = 2 then
            reason := '55000';  -- object_not_in_prerequisite_state: no fault of the events
        end if;
    end loop;

    if left(reason, 2) not in ('22', '23', '27', '54', 'P0') then
        raise exception using errcode = reason, message = error_message;
    end if;
    if not sifted then
        select sifting.good, sifting.rejected into good, rejected
        from usersync.sift_audit_events(events) as sifting;
        select rest.stored, rejected + rest.rejected into stored, rejected
        from usersync.store_audit_events(good, true) as rest;
    elsif half > 0 then
        select first.stored + second.stored, first.rejected + second.rejected into stored, rejected
        from usersync.store_audit_events(
            jsonb_path_query_array(events, '$[0 to $last]', jsonb_build_object('last', half - 1)), true
        ) as first
        cross join lateral usersync.store_audit_events(
            jsonb_path_query_array(events, '$[$first to last]', jsonb_build_object('first', half)), true
        ) as second;
    else
        perform usersync.reject_audit_event(events -> 0, reason, error_message);
        stored := 0;
        rejected := 1;
    end if;
end;
$usersync$;
comment on function usersync.store_audit_events(jsonb, boolean) is
    'usersync: stores a batch of events, and puts aside those that cannot be stored.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.store_audit_events(jsonb, boolean)', '3e639ed330e905f8f5d00ec04bfc73825cd2a032abae5a7c790e8610b8afea7a', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.store_audit_events(jsonb, boolean)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Reconciles from SQL, for whoever has no command at hand. Without arguments everything, in one transaction;
-- with a page size one page, to be called again with the next_id that comes back: the Data API cuts a call
-- off after 8 seconds.
create or replace function public.sync_existing_auth_users(first_id uuid default null, page_size integer default null)
returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    page record;
    compared record;
    cursor_id uuid := coalesce(first_id, '00000000-0000-0000-0000-000000000000');
    synced bigint := 0;
    errors bigint := 0;
    examined bigint := 0;
begin
    if page_size < 1 then
        raise exception 'page_size must be at least 1, not %', page_size using errcode = 'invalid_parameter_value';
    end if;
    if first_id is null then
        if page_size is null then
            compared := usersync.compare_at_once();
            if compared.in_step then
                return jsonb_build_object('synced', 0, 'errors', 0, 'examined', compared.examined, 'next_id', null);
            end if;
        end if;
        perform usersync.check_removals();
    end if;
    loop
        -- Called for a page, it has no memory of the pages before: who removes anybody asks about everybody.
        if first_id is not null and (
            select orphaned > 0 from usersync.reconcile_page(
                cursor_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff', coalesce(sync_existing_auth_users.page_size, 5000), true)
        ) then
            perform usersync.check_removals();
        end if;
        page := usersync.reconcile_page(
            cursor_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff', coalesce(sync_existing_auth_users.page_size, 5000), false);
        examined := examined + page.examined;
        errors := errors + page.degraded + page.failed;
        synced := synced + page.missing + page.stale + page.orphaned;
        cursor_id := page.next_id;
        exit when cursor_id is null or page_size is not null;
    end loop;
    return jsonb_build_object(
        'synced', greatest(synced - errors, 0), 'errors', errors, 'examined', examined, 'next_id', cursor_id);
end;
$usersync$;
comment on function public.sync_existing_auth_users(uuid, integer) is
    'usersync: brings the users table in line with the auth server''s, all at once or page by page.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'public.sync_existing_auth_users(uuid, integer)', 'f67ab16a527ad8de37deab7ff11e3302684a1cc6ea7e2893ee84cd700ce0a7eb', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'public.sync_existing_auth_users(uuid, integer)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Brings one user in line, and says whether either side knows them, and whether the auth server has them alive.
create or replace function usersync.sync_user(user_id uuid, out known boolean, out alive boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    perform usersync.sync_users(array[user_id]);
    sync_user.alive := exists (
        select from "auth"."users" as source where source."id" = sync_user.user_id and source."deleted_at" is null
    );
    sync_user.known := alive or usersync.user_exists(user_id)
        or exists (select from "auth"."users" as source where source."id" = sync_user.user_id);
end;
$usersync$;
comment on function usersync.sync_user(uuid) is 'usersync: brings one user in line.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.sync_user(uuid)', '8fed78ffc2952da547f97601b1aabfc1fa755aa96c2f407d29b8d95e9204d62f', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.sync_user(uuid)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- The one way into the users table, but for the one INSERT that nearly every sign-up is done with (handle_new_user).
-- Brings the rows of these users in line with the auth server's table and raises for nothing that the application's
-- schema can do. Called by the triggers in the auth server's own session, and by everything else as the owner.
--
-- fired_by: the operation of the trigger that calls, PAGE for the reconciler, or null for a call in a transaction
-- that may be the application's. What the calling statement has itself written to the auth server's table is nobody
-- else's to change before it ends, so triggers copy it as it stands; everybody else has to take care. Users whom it
-- has inserted are new to the ledger, so there is no look into it.
--
-- enable_seqscan: a plan that was made while the tables were empty would be kept while they grow.
create or replace function usersync.sync_users(ids uuid[], fired_by text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    reason text;
    failed_constraint text;
    failed_column text;
    error_message text;
    error_context text;
    written bigint;
    -- Whether the transaction is the auth server's or our own, so that nobody else's checks are pending in it.
    is_ours boolean := fired_by is not null or pg_current_xact_id_if_assigned() is null;
    has_triggers boolean;
    unlike uuid[] := '{}'::uuid[];
    half integer;
    unlocked uuid[];
begin
    if ids is null or cardinality(ids) = 0 then
        return;
    end if;
    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once, which is all that a sign-up is held up for.
        perform set_config('lock_timeout', '10ms', true);
    end if;
    if fired_by in ('UPDATE', 'DELETE') then
        perform set_config('usersync.has_changed_users', 'yes', true);
    end if;
    begin
        written := usersync.write_rows(ids, held => coalesce(fired_by in ('INSERT', 'UPDATE', 'DELETE'), false));
        if written < cardinality(ids) then
            perform usersync.remove_users(ids);
        end if;
        -- What is deferred to COMMIT would fail the sign-up there, out of reach of this block: constraints of the
        -- users table, and of whatever a trigger or a cascade has written to. In an application's transaction
        -- its own pending checks would fail here, before it is done; there, COMMIT is where it expects them.
        if is_ours then
            set constraints all immediate;
        end if;
        has_triggers := exists (
            select from pg_trigger where tgrelid = '"public"."users"'::regclass and not tgisinternal
        ) or exists (select from pg_inherits where inhparent = '"public"."users"'::regclass);
        -- Where all was written and nobody else has a hand in it, there is nothing to look for.
        if has_triggers or written < cardinality(ids) then
            unlike := usersync.note_unlike_users(ids);
        end if;
        if fired_by is distinct from 'INSERT' then
            begin
                delete from usersync.sync_failures where user_id = any(sync_users.ids) and user_id <> all(unlike);
            exception when others then
                null;  -- A ledger that is locked or gone makes no row wrong; the next reconciling run looks again.
            end;
        end if;
        return;
    exception
        -- "others" leaves out two: a failed ASSERT, which an application's trigger may well raise, and
        -- query_canceled, which is somebody's wish and is obeyed.
        when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate,
                failed_constraint = constraint_name,
                failed_column = column_name,
                error_message = message_text,
                error_context = pg_exception_context;
    end;

    half := cardinality(ids) / 2;
    perform set_config('usersync.is_ours', is_ours::text, true);
    if reason = '55P03' then
        perform set_config('usersync.has_waited', 'yes', true);
    end if;
    if half > 0 and reason = '55P03' then
        -- Somebody holds some of the rows. The others need not wait with them.
        unlocked := usersync.unlocked_users(ids);
        if cardinality(unlocked) between 1 and cardinality(ids) - 1 then
            perform usersync.sync_users(unlocked, fired_by);
            ids := array(select unnest(ids) except select unnest(unlocked));
        end if;
    elsif half > 0 and (
        left(reason, 2) not in ('0A', '42', '53', '57', '58', 'XX') or usersync.raised_below(error_context) is not null
    ) then
        -- Some row's fault, then, and not the schema's: find it, and let the others through.
        perform usersync.sync_users(ids[:half], fired_by);
        perform usersync.sync_users(ids[half + 1:], fired_by);
        return;
    end if;
    perform usersync.degrade_users(
        ids, reason, nullif(failed_constraint, ''), nullif(failed_column, ''), error_message, error_context
    );
end;
$usersync$;
comment on function usersync.sync_users(uuid[], text) is
    'usersync: brings the rows of these users in line; what cannot be written goes to usersync.sync_failures.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.sync_users(uuid[], text)', 'aa0e57434ac2013fc8a07a920eb74cad2afd521c2a86d8282a09fe7f7f90c039', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.sync_users(uuid[], text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- When a uuid of version 7 was made, which is when its event happened; null for any other. It completes the
-- key of an event that comes without its time, the same way each time it comes.
create or replace function usersync.time_of_id(id uuid) returns timestamptz
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $usersync$
select to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
where substr(id::text, 15, 1) = '7' and left(id::text, 2) < 'e0'
$usersync$;
comment on function usersync.time_of_id(uuid) is 'usersync: the time in a uuid of version 7.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.time_of_id(uuid)', '3784787cf5e868825128560cb742f902807c69dbee75c560f50b897e3e11d734', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.time_of_id(uuid)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Those of the users whose rows are not what was written, though nothing was raised: a trigger of the
-- application skips, deletes or changes what it is given. The message ends in a digest of what went in, what
-- came out and the triggers: while that stays the same, writing once more is of no use.
create or replace function usersync.unlike_users(
    ids uuid[], out user_id uuid, out sqlstate text, out column_names text, out message text
) returns setof record
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
as $usersync$
#variable_conflict use_column
declare
    triggers text;
begin
    select md5(string_agg(concat_ws(' ', tgname, tgenabled, md5(prosrc)), ', ' order by tgname))
    into triggers
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    where tgrelid = '"public"."users"'::regclass and not tgisinternal;

    return query
    select
        examined.user_id,
        case when source."id" is not null and target."id" is not null then 'US001' else 'US002' end,
        nullif(array_to_string(case
            when source."id" is not null and target."id" is not null
                then array_remove(array[case when target."email" is distinct from source."email" then 'email' end, case when target."phone" is distinct from source."phone" then 'phone' end, case when target."full_name" is distinct from coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}' then 'full_name' end, case when target."avatar_url" is distinct from coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}' then 'avatar_url' end, case when target."is_anonymous" is distinct from source."is_anonymous" then 'is_anonymous' end, case when target."email_confirmed_at" is distinct from source."email_confirmed_at" then 'email_confirmed_at' end, case when target."phone_confirmed_at" is distinct from source."phone_confirmed_at" then 'phone_confirmed_at' end, case when target."banned_until" is distinct from source."banned_until" then 'banned_until' end, case when target."created_at" is distinct from source."created_at" then 'created_at' end, case when target."deleted_at" is distinct from source."deleted_at" then 'deleted_at' end]::text[], null)
        end, ', '), ''),
        case
            when source."id" is null then
                'The user is gone, and the row is as it was: a trigger of the application skips the change.'
            when target."id" is null then
                'The row was written, and is not there: a trigger of the application skips or deletes it.'
            else format(
                'The row was written, and holds another value all the same: a trigger of the application changes '
                'what is written (as of %s).',
                left(md5(concat(triggers, row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at"), row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at"))), 8)
            )
        end
    from unnest(unlike_users.ids) as examined (user_id)
    -- Lateral, and kept apart by OFFSET 0: each is looked up by its primary key, see write_rows.
    left join lateral (
        select source.* from "auth"."users" as source
        where source."id" = examined.user_id and source."deleted_at" is null offset 0
    ) as source on true
    left join lateral (
        select target.* from "public"."users" as target where target."id" = examined.user_id offset 0
    ) as target on true
    where case
        when source."id" is null then target."id" is not null and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true
        else row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at")
    end;
end;
$usersync$;
comment on function usersync.unlike_users(uuid[]) is
    'usersync: the users whose rows differ from what was written to them.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.unlike_users(uuid[])', '8e06d32502c87b96b78ab8f811ae379295cc6361cbd8ca4a2d6fde0e3cc40485', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.unlike_users(uuid[])'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Takes the link off some events of a user who is gone, as the foreign key would off all of them at once; who did
-- it (actor_id) stays. Returns how many.
create or replace function usersync.unlink_events(user_id uuid, batch integer) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    unlinked bigint;
begin
    if exists (
        select from "auth"."users" as source
        where source."id" = unlink_events.user_id and source."deleted_at" is null
    ) then
        return 0;
    end if;
    perform set_config('usersync.maintaining', 'audit', true);
    update "public"."audit_logs" as log set "user_id" = null
    from (
        select stored.ctid as place, stored.tableoid as partition
        from (select unlink_events.user_id as id) as going
        join "public"."audit_logs" as stored on stored."user_id" = going.id
        limit unlink_events.batch
    ) as linked
    where log.ctid = linked.place and log.tableoid = linked.partition;
    get diagnostics unlinked = row_count;
    perform set_config('usersync.maintaining', '', true);
    return unlinked;
end;
$usersync$;
comment on function usersync.unlink_events(uuid, integer) is
    'usersync: takes the link to a user who is gone off some audit events.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.unlink_events(uuid, integer)', '0fbd1ad6f6221e3096b97f64b2da26be0e1cfc7fa82264478211e46227c97b8c', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.unlink_events(uuid, integer)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Those of the users whose rows nobody else holds; none where the table itself is locked.
create or replace function usersync.unlocked_users(ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    held uuid[];
begin
    lock table "public"."users" in row exclusive mode nowait;
    held := array(
        select source."id" from "auth"."users" as source where source."id" = any(unlocked_users.ids)
        except (
            select held_now."id"
            from (
                select source."id" from "auth"."users" as source
                where source."id" = any(unlocked_users.ids) for key share skip locked
            ) as held_now
        )
    ) || array(
        select target."id" from "public"."users" as target where target."id" = any(unlocked_users.ids)
        except (
            select held_now."id"
            from (
                select target."id" from "public"."users" as target
                where target."id" = any(unlocked_users.ids) for no key update skip locked
            ) as held_now
        )
    );
    return array(select unnest(ids) except select unnest(held));
exception when others then
    return '{}'::uuid[];
end;
$usersync$;
comment on function usersync.unlocked_users(uuid[]) is
    'usersync: the users whose rows can be had without waiting.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.unlocked_users(uuid[])', 'b4650de7fc27b53e1d516237cb6d4b15c70a19df294a6a842065eb12524a7062', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.unlocked_users(uuid[])'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Whether the users table has a row for this user. Makes none.
create or replace function usersync.user_exists(user_id uuid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return exists (select from "public"."users" as target where target."id" = user_exists.user_id);
end;
$usersync$;
comment on function usersync.user_exists(uuid) is 'usersync: whether this user has a row in the users table.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.user_exists(uuid)', 'decffc29a523706c22f50e4d1a2455dbbc7e543cd159dcd4aee10622271501d3', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.user_exists(uuid)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- The truth about both tables, as one JSON object. Reads both, once where they agree, and writes nothing.
create or replace function public.user_sync_status() returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    page record;
    cursor_id uuid := '00000000-0000-0000-0000-000000000000'::uuid;
    compared record := usersync.compare_at_once();
    auth_users bigint := 0;
    users bigint := 0;
    missing bigint := 0;
    stale bigint := 0;
    orphaned bigint := 0;
    oldest_missing timestamptz;
begin
    if compared.in_step then
        auth_users := compared.auth_users;
        users := compared.users;
        cursor_id := null;
    end if;
    while cursor_id is not null loop
        page := usersync.reconcile_page(cursor_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 20000, true);
        auth_users := auth_users + page.auth_users;
        users := users + page.users;
        missing := missing + page.missing;
        stale := stale + page.stale;
        orphaned := orphaned + page.orphaned;
        oldest_missing := least(oldest_missing, page.oldest_missing);
        cursor_id := page.next_id;
    end loop;
    return jsonb_build_object(
        'auth_users', auth_users,
        'users', users,
        'missing', missing,
        'stale', stale,
        'orphaned', orphaned,
        'oldest_missing_at', oldest_missing
    ) || usersync.ledger_status();
end;
$usersync$;
comment on function public.user_sync_status() is
    'usersync: how many users there are on both sides, and how many are missing, stale, orphaned or failed.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'public.user_sync_status()', '81cb68a939b6bead5076db0d15b29a98af6941f1bec928c575f1556220177a21', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'public.user_sync_status()'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- What clients may do beyond the functions with names of their own: an operation, its arguments and its answer,
-- the latter two as JSON. The Data API reaches functions in "public" alone, and there this is the only one more;
-- Python comes the same way, by connection as by HTTP. Each operation may be asked for again, by whoever got no answer.
create or replace function public.usersync(operation text, arguments jsonb default '{}') returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
<<given>>
declare
    user_id uuid := (arguments ->> 'user_id')::uuid;
    run_id uuid := (arguments ->> 'run_id')::uuid;
    page_size integer := (arguments ->> 'page_size')::integer;
    ids uuid[];
begin
    case operation
    when 'user_exists' then
        return to_jsonb(usersync.user_exists(user_id));
    when 'sync_user' then
        return to_jsonb(usersync.sync_user(user_id)) || jsonb_build_object(
            'copied', '"auth"."users"'::regclass is not distinct from to_regclass('usersync.auth_users'));
    when 'sync_users' then
        ids := array(select id::uuid from jsonb_array_elements_text(arguments -> 'ids') as id);
        perform usersync.sync_users(ids);
        return to_jsonb(cardinality(ids));
    when 'ledger_status' then
        return usersync.ledger_status();
    when 'failures' then
        return usersync.list_failures(
            user_id, (arguments ->> 'after_time')::timestamptz, (arguments ->> 'after_id')::uuid, page_size);
    when 'failed_ids' then
        return to_jsonb(array(
            select failure.user_id from usersync.sync_failures as failure
            where (given.user_id is null or failure.user_id = given.user_id)
                and (arguments ->> 'after_id' is null or failure.user_id > (arguments ->> 'after_id')::uuid)
                and (arguments ->> 'sqlstate' is null or failure.sqlstate = arguments ->> 'sqlstate')
            order by failure.user_id limit given.page_size
        ));
    when 'count_failed' then
        return (
            select jsonb_build_object(
                'degraded', count(*) filter (where failure.outcome = 'degraded'),
                'failed', count(*) filter (where failure.outcome = 'failed')
            )
            from usersync.sync_failures as failure
            where given.user_id is null or failure.user_id = given.user_id
        );
    when 'unlink_events' then
        return to_jsonb(usersync.unlink_events(user_id, page_size));
    when 'count_removals' then
        return to_jsonb(usersync.count_removals());
    when 'compare' then
        return to_jsonb(usersync.reconcile_page(
            (arguments ->> 'first_id')::uuid, (arguments ->> 'last_id')::uuid, page_size, true));
    when 'compare_at_once' then
        return to_jsonb(usersync.compare_at_once());
    when 'start_run' then
        perform usersync.start_run(
            run_id,
            array(select id::uuid from jsonb_array_elements_text(arguments -> 'first_ids') as id),
            array(select id::uuid from jsonb_array_elements_text(arguments -> 'last_ids') as id),
            page_size,
            (arguments ->> 'examined')::bigint);
        return null;
    when 'unfinished_run' then
        return (
            select coalesce(jsonb_agg(to_jsonb(run) order by run.part), '[]')
            from usersync.sync_runs as run
            where run.run_id = (
                select unfinished.run_id from usersync.sync_runs as unfinished
                where unfinished.state <> 'finished' order by unfinished.updated_at desc limit 1
            )
        );
    when 'run_part' then
        return (
            select to_jsonb(run) from usersync.sync_runs as run
            where run.run_id = given.run_id and run.part = (arguments ->> 'part')::integer
        );
    when 'advance_run' then
        return to_jsonb(usersync.advance_run(run_id, (arguments ->> 'part')::integer));
    when 'limit_pages' then
        update usersync.sync_runs as run set page_size = least(run.page_size, given.page_size)
        where run.run_id = given.run_id and run.part = (arguments ->> 'part')::integer;
        return null;
    when 'interrupt_run' then
        update usersync.sync_runs as run set state = 'interrupted', updated_at = clock_timestamp()
        where run.run_id = given.run_id and run.state = 'running';
        return null;
    when 'receive_users' then
        return to_jsonb(usersync.receive_users(
            arguments -> 'users', coalesce((arguments ->> 'seen_at')::timestamptz, clock_timestamp())));
    when 'start_receiving' then
        perform usersync.receive_users('[]', now());
        return to_jsonb(clock_timestamp());
    when 'count_unseen' then
        return to_jsonb(usersync.count_unseen((arguments ->> 'since')::timestamptz));
    when 'unseen_ids' then
        return to_jsonb(array(
            select stored.id from usersync.auth_users as stored
            where stored.seen_at < (arguments ->> 'since')::timestamptz
                and (arguments ->> 'after_id' is null or stored.id > (arguments ->> 'after_id')::uuid)
            order by stored.id limit given.page_size
        ));
    when 'forget_user' then
        delete from usersync.auth_users as stored
        where stored.id = given.user_id and stored.seen_at < (arguments ->> 'since')::timestamptz;
        return null;
    else
        raise exception 'this usersync has no operation %', quote_nullable(operation)
            using errcode = 'US302', hint = 'Is it older than the client? Run: usersync apply';
    end case;
end;
$usersync$;
comment on function public.usersync(text, jsonb) is
    'usersync: what clients do beyond the functions with names of their own, by operation.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'public.usersync(text, jsonb)', 'ac614db6ab35eda9407d2ae4d6dcd0134d205a8bc4ce862a515be1c385abe98d', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'public.usersync(text, jsonb)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- A message without what personal data it may quote: addresses, and for a value that did not fit, the value.
create or replace function usersync.without_values(reason text, message text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $usersync$
    select left(regexp_replace(
        case
            when reason like '22%' then regexp_replace(message, '"(.*)"', '"…"')
            -- A quoted local part may hold spaces.
            else regexp_replace(message, '"[^"]*["]@', '@', 'g')
        end,
        '[^\s,;<>]*@[^\s,;<>]*', '<address>', 'g'
    ), 500);
$usersync$;
comment on function usersync.without_values(text, text) is
    'usersync: an error message without the personal data that it may quote.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.without_values(text, text)', '264eb0b1bd6cb5583a5fb95d87bc148cd2f82c97f65da32736d68fd36f21ee14', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.without_values(text, text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- A row with the id and whatever the table demands and the mapping can deliver. What is demanded is asked of
-- the catalog each time: a column that refuses null may have come yesterday.
create or replace function usersync.write_minimal_rows(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    column_list text;
    value_list text;
begin
    select string_agg(quote_ident(mapped.name), ', '), string_agg(mapped.expression, ', ')
    into column_list, value_list
    from unnest(array['id', 'email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at'], array['source."id"', 'source."email"', 'source."phone"', 'coalesce(source."raw_user_meta_data" -> ''full_name'', source."raw_user_meta_data" -> ''name'') #>> ''{}''', 'coalesce(source."raw_user_meta_data" -> ''avatar_url'', source."raw_user_meta_data" -> ''picture'') #>> ''{}''', 'source."is_anonymous"', 'source."email_confirmed_at"', 'source."phone_confirmed_at"', 'source."banned_until"', 'source."created_at"', 'source."deleted_at"']) as mapped (name, expression)
    join pg_attribute as demanded on
        demanded.attrelid = '"public"."users"'::regclass
        and demanded.attname = mapped.name
        and not demanded.attisdropped
    join pg_type on pg_type.oid = demanded.atttypid
    where demanded.attname = 'id' or ((demanded.attnotnull or typnotnull) and not demanded.atthasdef);

    execute format(
        'insert into %s (%s) select %s from %s as source '
        'where source."id" = any($1) and source."deleted_at" is null '
        'and (select true from %s as target where target.%I = source."id") is null on conflict (%I) do nothing',
        '"public"."users"', column_list, value_list, '"auth"."users"', '"public"."users"', 'id', 'id'
    ) using ids;
    if coalesce(current_setting('usersync.is_ours', true), 'true') = 'true' then
        set constraints all immediate;
    end if;
end;
$usersync$;
comment on function usersync.write_minimal_rows(uuid[]) is
    'usersync: inserts rows with the id and the columns that may not be null, where there are none.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.write_minimal_rows(uuid[])', 'c5ea8567642585aa4502bbc58c1b11ae702c16f91e63d4cdc4f7959fabb16e14', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.write_minimal_rows(uuid[])'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Writes the rows of users who are not new, and returns how many it wrote: what is missing is inserted, what
-- differs is updated. Not by one upsert, which would fail for every row that is there already once the table has
-- a column that new rows cannot fill.
--
-- No value overwrites a newer one, nobody who was deleted comes back, and the auth server waits for none of it: its
-- rows are held FOR KEY SHARE, which keeps them from being deleted (or given another phone number) and from nothing
-- else. A row that is missing is inserted; where somebody was faster, theirs stands. A row that is there is held
-- first and compared afterwards, by a statement that sees what the auth server's table holds by then: whoever
-- changes it later cannot mirror it before this has ended. held: nobody else can be changing these users in the auth
-- server's table, so that holding the rows can be left out.
--
-- A user's other row is looked up in a scalar subquery, here and elsewhere, because that is no join: whatever the
-- planner believes about the tables' sizes, it has the primary key to go by and nothing else. A join that was
-- planned while a table was empty may read all of it for each row, once it has grown.
--
-- plan_cache_mode: planning this anew each time would take as long as running it.
create or replace function usersync.write_rows(ids uuid[], held boolean) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set plan_cache_mode = force_generic_plan
as $usersync$
#variable_conflict use_column
declare
    inserted bigint;
    updated bigint;
begin
    insert into "public"."users" ("id", "email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at")
    select source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at"
    from "auth"."users" as source
    where source."id" = any(write_rows.ids)
        and source."deleted_at" is null
        and (select true from "public"."users" as target where target."id" = source."id") is null
    for key share of source
    on conflict ("id") do nothing;
    get diagnostics inserted = row_count;
    if inserted = cardinality(ids) then
        return inserted;
    end if;

    if not held then
        perform from "auth"."users" as source where source."id" = any(write_rows.ids) for key share;
        perform from "public"."users" as target where target."id" = any(write_rows.ids) for no key update;
    end if;
    update "public"."users" as target
    set ("email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at") = (
        select source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at" from "auth"."users" as source where source."id" = target."id"
    )
    where target."id" = any(write_rows.ids)
        and (
            select row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at")
            from "auth"."users" as source
            where source."id" = target."id" and source."deleted_at" is null
        );
    get diagnostics updated = row_count;
    return inserted + updated;
end;
$usersync$;
comment on function usersync.write_rows(uuid[], boolean) is
    'usersync: inserts and updates the rows of these users, and returns how many.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.write_rows(uuid[], boolean)', '7dd87f208e819aa5b5f87e5c3df060c6dc7c17ea8809cf427ae7bb8c6dfb0a6e', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.write_rows(uuid[], boolean)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Writes the row of a user whose value in a unique column is another user's, where the settings say what then: with
-- on_conflict "null" that column is left empty, with "suffix" a part of the user's id goes behind the value, as much
-- of it as it takes. Says whether the row was written, which column was left empty, and for which constraint.
create or replace function usersync.write_yielding_row(
    user_id uuid, failed_constraint text,
    out written boolean, out lacking text, out lacking_for text
)
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
as $usersync$
#variable_conflict use_column
declare
    names text[] := array['id', 'email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at'];
    expressions text[] := array['source."id"', 'source."email"', 'source."phone"', 'coalesce(source."raw_user_meta_data" -> ''full_name'', source."raw_user_meta_data" -> ''name'') #>> ''{}''', 'coalesce(source."raw_user_meta_data" -> ''avatar_url'', source."raw_user_meta_data" -> ''picture'') #>> ''{}''', 'source."is_anonymous"', 'source."email_confirmed_at"', 'source."phone_confirmed_at"', 'source."banned_until"', 'source."created_at"', 'source."deleted_at"'];
    owners text[] := array['key', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth'];
    policies text[] := array['degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade'];
    tries integer[] := array_fill(0, array[cardinality(names)]);
    digits integer;
    colliding integer;
    statement text;
begin
    written := false;
    -- As in write_rows: held first and looked at afterwards, so that nothing newer is overwritten.
    perform from "auth"."users" as source where source."id" = write_yielding_row.user_id for key share;
    perform from "public"."users" as target where target."id" = write_yielding_row.user_id for no key update;
    loop
        select subscript into colliding
        from generate_subscripts(names, 1) as subscript
        where names[subscript] = any(usersync.columns_of(failed_constraint))
            and owners[subscript] <> 'key'
            and tries[subscript] < case policies[subscript] when 'suffix' then 3 else 1 end
        -- Beside one that yields, a column that is not meant to is left empty too, which is more than a minimal row.
        order by policies[subscript] = 'degrade', subscript
        limit 1;
        exit when colliding is null;
        tries[colliding] := tries[colliding] + 1;
        if policies[colliding] <> 'suffix' then
            expressions[colliding] := 'null';
            lacking := names[colliding];
            lacking_for := failed_constraint;
        else
            digits := (array[4, 8, 32])[tries[colliding]];
            expressions[colliding] := (
                select format(
                    'left((%s)::text, %s) || ''_'' || left(replace(source."id"::text, ''-'', ''''), %s)',
                    (array['source."id"', 'source."email"', 'source."phone"', 'coalesce(source."raw_user_meta_data" -> ''full_name'', source."raw_user_meta_data" -> ''name'') #>> ''{}''', 'coalesce(source."raw_user_meta_data" -> ''avatar_url'', source."raw_user_meta_data" -> ''picture'') #>> ''{}''', 'source."is_anonymous"', 'source."email_confirmed_at"', 'source."phone_confirmed_at"', 'source."banned_until"', 'source."created_at"', 'source."deleted_at"'])[colliding],
                    case when width > 0 then greatest(width - digits - 1, 0) else 1 << 20 end,
                    digits
                )
                from (
                    select coalesce(nullif(atttypmod, -1), typtypmod) - 4 as width
                    from pg_attribute
                    join pg_type on pg_type.oid = atttypid
                    where attrelid = '"public"."users"'::regclass and attname = names[colliding]
                ) as target_column
            );
        end if;
        begin
            execute (
                select format(
                    'insert into %s (%s) select %s from %s as source where source."id" = $1 '
                    'and source."deleted_at" is null '
                    'and (select true from %1$s as target where target.%5$I = source."id") is null '
                    'on conflict (%5$I) do nothing',
                    '"public"."users"', string_agg(quote_ident(names[subscript]), ', '),
                    string_agg(expressions[subscript], ', '), '"auth"."users"', 'id'
                )
                from generate_subscripts(names, 1) as subscript
            ) using user_id;
            -- What the application owns was written when the row was made.
            select format(
                'update %s as target set (%s) = (select %s from %s as source where source."id" = target.%I) '
                'where target.%5$I = $1 and (select row(%s)::text is distinct from row(%s)::text from %4$s as source '
                'where source."id" = target.%5$I and source."deleted_at" is null)',
                '"public"."users"',
                string_agg(quote_ident(attname), ', '),
                string_agg(expressions[subscript], ', '),
                '"auth"."users"',
                'id',
                string_agg(format('target.%I', attname), ', '),
                string_agg(format('(%s)::%s', expressions[subscript], format_type(atttypid, atttypmod)), ', ')
            )
            into statement
            from generate_subscripts(names, 1) as subscript
            join pg_attribute on attrelid = '"public"."users"'::regclass and attname = names[subscript]
            where owners[subscript] = 'auth'
            having count(*) > 0;
            if statement is not null then
                execute statement using user_id;
            end if;
            if coalesce(current_setting('usersync.is_ours', true), 'true') = 'true' then
                set constraints all immediate;
            end if;
            written := true;
            return;
        exception when unique_violation then
            get stacked diagnostics failed_constraint = constraint_name;
        end;
    end loop;
exception when others or assert_failure then
    written := false;  -- What was wrong first is what the ledger is told.
end;
$usersync$;
comment on function usersync.write_yielding_row(uuid, text) is
    'usersync: writes the row of a user whose value in a unique column is taken, as on_conflict says.';
insert into usersync.functions (signature, checksum, fingerprint)
select 'usersync.write_yielding_row(uuid, text)', '72d98ee34b0e92d0b4fe956a96c4cabb1ab9b8ae18198603b088fb46b060e1f4', md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))
from pg_catalog.pg_proc where oid = 'usersync.write_yielding_row(uuid, text)'::regprocedure
on conflict (signature) do update set checksum = excluded.checksum, fingerprint = excluded.fingerprint, installed_at = now();

-- Takes every right on what usersync made from everybody, by name, and gives back the few that are meant.
-- Supabase grants by default what is made in "public", to roles by name: revoking from PUBLIC alone leaves
-- those grants in place, and the other way round.
do $usersync$
declare
    object text;
    grantee text;
    public_names name[] := array['ensure_user_exists', 'record_audit_events', 'sync_existing_auth_users', 'user_sync_status', 'usersync'];
    -- Anybody can write our comment on a function of their own.
    owners oid[] := array[
        quote_ident(current_user)::regrole, (select nspowner from pg_namespace where nspname = 'usersync')];
begin
    for grantee in
        select 'public'
        union all
        select quote_ident(rolname) from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
    loop
        execute format('revoke all on schema usersync from %s', grantee);
        execute format('revoke all on all tables in schema usersync from %s', grantee);
        for object in
            select oid::regprocedure::text from pg_proc
            where obj_description(oid, 'pg_proc') like 'usersync: %' and proowner = any(owners)
                and (pronamespace = 'usersync'::regnamespace or proname = any(public_names))
        loop
            execute format('revoke all on function %s from %s', object, grantee);
        end loop;
    end loop;
    if to_regrole('service_role') is not null then
        for object in
            select oid::regprocedure::text from pg_proc
            where obj_description(oid, 'pg_proc') like 'usersync: %' and proowner = any(owners)
                and pronamespace = 'public'::regnamespace and proname = any(public_names)
        loop
            execute format('grant execute on function %s to service_role', object);
        end loop;
    end if;
end;
$usersync$;

insert into usersync.settings (settings) values ('{"audit": {"columns": {}, "personal": ["email", "e_mail", "mail", "phone", "mobile", "address", "ip", "user_agent", "useragent", "username", "user_name", "full_name", "fullname", "first_name", "last_name", "given_name", "family_name", "display_name", "nickname", "avatar", "avatar_url", "picture", "birthday", "birthdate", "date_of_birth"]}, "audit_table": "public.audit_logs", "columns": {"avatar_url": {"from": ["user_metadata.avatar_url", "user_metadata.picture"], "owner": "auth", "personal": true, "trusted": false}, "banned_until": {"from": ["banned_until"], "owner": "auth", "personal": false, "trusted": false}, "created_at": {"from": ["created_at"], "owner": "auth", "personal": false, "trusted": false}, "deleted_at": {"from": ["deleted_at"], "owner": "auth", "personal": false, "trusted": false}, "email": {"from": ["email"], "owner": "auth", "personal": true, "trusted": false}, "email_confirmed_at": {"from": ["email_confirmed_at"], "owner": "auth", "personal": false, "trusted": false}, "full_name": {"from": ["user_metadata.full_name", "user_metadata.name"], "owner": "auth", "personal": true, "trusted": false}, "is_anonymous": {"from": ["is_anonymous"], "owner": "auth", "personal": false, "trusted": false}, "phone": {"from": ["phone"], "owner": "auth", "personal": true, "trusted": false}, "phone_confirmed_at": {"from": ["phone_confirmed_at"], "owner": "auth", "personal": false, "trusted": false}}, "key": "id", "library_version": "0.1.0", "lock_timeout_ms": 250, "on_delete": "anonymize", "removal_cap": 0.05, "sign_up_trigger": "statement", "source_table": "auth.users", "users_table": "public.users"}'::jsonb)
on conflict (only_row) do update set settings = excluded.settings, applied_at = now()
where usersync.settings.settings is distinct from excluded.settings;

-- Makes the audit log where there is none. One that usersync made is kept closed and append-only, and taken on again
-- where it was left behind by a rollback. Any other that exists stays as it is.
do $usersync$
declare
    partition regclass;
begin
    -- Those of a log that usersync wrote before another was named.
    for partition in
        select inhrelid::regclass from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where relnamespace = 'usersync'::regnamespace and inhparent is distinct from to_regclass('"public"."audit_logs"')
            and relkind in ('r', 'p')
    loop
        execute format('alter table %s set schema %s', partition, (
            select relnamespace::regnamespace from pg_inherits join pg_class on pg_class.oid = inhparent
            where inhrelid = partition
        ));
    end loop;

    if to_regclass('"public"."audit_logs"') is null then
        create schema if not exists "public";
        -- What an event may hold is said by usersync.audit_event; what is said again here is for triggers that
        -- write rows themselves, and for the time when usersync is gone and the table is not.
        create table "public"."audit_logs" (
            id uuid not null,
            occurred_at timestamptz not null,
            recorded_at timestamptz not null default now(),
            action text collate "C" not null check (length(action) between 1 and 200),
            outcome text collate "C" not null check (outcome in ('succeeded', 'failed', 'denied')),
            actor_id text collate "C" check (length(actor_id) <= 200),
            actor_type text collate "C" not null check (actor_type in ('user', 'service', 'system', 'anonymous')),
            user_id uuid references "public"."users" ("id") on delete set null,
            entity_type text collate "C" check (length(entity_type) <= 200),
            entity_id text collate "C" check (length(entity_id) <= 200),
            changes jsonb,
            metadata jsonb not null default '{}',
            request_id text collate "C" check (length(request_id) <= 200),
            ip inet,
            user_agent text,
            source text collate "C" not null check (source in ('app', 'trigger', 'sync')),
            -- The key that makes sending a batch twice store it once. The time is in it because the table is
            -- partitioned by it.
            primary key (id, occurred_at)
        ) partition by range (occurred_at);
        comment on table "public"."audit_logs" is
            'The audit log, made by usersync: what happened, who did it (actor_id, a fact that stays) and the '
            'same person as a link (user_id). Append-only. Written by public.record_audit_events.';

        create index on "public"."audit_logs" (user_id, occurred_at) where user_id is not null;
        create index on "public"."audit_logs" (actor_id, occurred_at);
        create index on "public"."audit_logs" (entity_type, entity_id, occurred_at);
        create index on "public"."audit_logs" (action, occurred_at);
        create index on "public"."audit_logs" (request_id) where request_id is not null;
        create index on "public"."audit_logs" (occurred_at);
        -- For whoever follows the log. Costs nearly nothing: rows lie in the order in which they were stored.
        create index on "public"."audit_logs" using brin (recorded_at) with (pages_per_range = 16, autosummarize = on);
    elsif coalesce(obj_description(to_regclass('"public"."audit_logs"'), 'pg_class'), '')
        not like 'The audit log, made by usersync: %'
        or (select relkind <> 'p' from pg_class where oid = to_regclass('"public"."audit_logs"'))
    then
        return;
    end if;

    if not (select relrowsecurity from pg_class where oid = to_regclass('"public"."audit_logs"')) then
        alter table "public"."audit_logs" enable row level security;
    end if;
    revoke all on table "public"."audit_logs" from public;
    if to_regrole('anon') is not null and to_regrole('authenticated') is not null then
        revoke all on table "public"."audit_logs" from anon, authenticated;
    end if;
    if to_regrole('service_role') is not null then
        revoke all on table "public"."audit_logs" from service_role;
        grant select on table "public"."audit_logs" to service_role;
        -- Says in words what the grants say already; a table with row-level security and no policy makes the
        -- advisor ask whether one was forgotten (lint 0008), and one for anon or authenticated makes it ask
        -- about anonymous sign-ins (lint 0012).
        if not exists (
            select from pg_policy
            where polrelid = to_regclass('"public"."audit_logs"') and polname = 'Only the service role reads the log'
                and polroles = array[to_regrole('service_role')::oid] and polcmd = 'r'
        ) then
            drop policy if exists "Only the service role reads the log" on "public"."audit_logs";
            create policy "Only the service role reads the log" on "public"."audit_logs" for select to service_role
                using (true);
        end if;
    end if;

    for partition in
        select inhrelid::regclass from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = to_regclass('"public"."audit_logs"') and relnamespace <> 'usersync'::regnamespace
            and relname ~ '^audit_logs_(default|[0-9]{4}_[0-9]{2})$'
    loop
        execute format('alter table %s set schema usersync', partition);
    end loop;
    if not exists (
        select from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = to_regclass('"public"."audit_logs"') and pg_get_expr(relpartbound, pg_class.oid) = 'DEFAULT'
    ) then
        -- Partitions are not for the Data API, and so not in an exposed schema.
        create table usersync.audit_logs_default partition of "public"."audit_logs" default;
    end if;
    create or replace trigger keep_audit_logs before update or delete on "public"."audit_logs"
        for each row execute function usersync.keep_audit_logs();
    perform usersync.guard_audit_partitions();
    -- Years may pass without a writer of ours, or with a default partition too large for others to be made.
    perform usersync.make_audit_partitions(12);
end;
$usersync$;

-- Last, because each of them locks the auth server's table against writes until the end.

create or replace trigger on_auth_user_created
after insert on "auth"."users"
referencing new table as new_users
for each statement execute function usersync.handle_new_user();

create or replace trigger on_auth_user_updated
after update on "auth"."users"
for each row execute function usersync.handle_updated_user();

create or replace trigger on_auth_user_deleted
after delete on "auth"."users"
referencing old table as old_users
for each statement execute function usersync.handle_deleted_user();

commit;
