-- What usersync adds to a database, read from the catalog. To refresh: UPDATE_GOLDEN=1 pytest
-- tests/schema/test_golden_schema.py --pg 18

-- function public.ensure_user_exists(uuid)
owner postgres; usersync: makes sure that this user has a row in the users table; false if there is no such user.
CREATE OR REPLACE FUNCTION public.ensure_user_exists(user_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$


-- function public.ensure_user_exists(uuid) granted to service_role
EXECUTE

-- function public.sync_existing_auth_users(uuid, integer)
owner postgres; usersync: brings the users table in line with the auth server's, all at once or page by page.
CREATE OR REPLACE FUNCTION public.sync_existing_auth_users(first_id uuid DEFAULT NULL::uuid, page_size integer DEFAULT NULL::integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    page record;
    cursor_id uuid := coalesce(first_id, '00000000-0000-0000-0000-000000000000');
    synced bigint := 0;
    errors bigint := 0;
    examined bigint := 0;
begin
    if page_size < 1 then
        raise exception 'page_size must be at least 1, not %', page_size using errcode = 'invalid_parameter_value';
    end if;
    if first_id is null then
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
$function$


-- function public.sync_existing_auth_users(uuid, integer) granted to service_role
EXECUTE

-- function public.user_sync_status()
owner postgres; usersync: how many users there are on both sides, and how many are missing, stale, orphaned or failed.
CREATE OR REPLACE FUNCTION public.user_sync_status()
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    page record;
    cursor_id uuid := '00000000-0000-0000-0000-000000000000';
    auth_users bigint := 0;
    users bigint := 0;
    missing bigint := 0;
    stale bigint := 0;
    orphaned bigint := 0;
    oldest_missing timestamptz;
begin
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
    ) || (
        select jsonb_build_object(
            'degraded', count(*) filter (where failure.outcome = 'degraded'),
            'failed', count(*) filter (where failure.outcome = 'failed'),
            'oldest_failure_at', min(failure.first_failed_at)
        )
        from usersync.sync_failures as failure
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
        )
    );
end;
$function$


-- function public.user_sync_status() granted to service_role
EXECUTE

-- function usersync.advance_run(uuid, integer)
owner postgres; usersync: does the next page of one part of a reconciling run.
CREATE OR REPLACE FUNCTION usersync.advance_run(run_id uuid, part integer)
 RETURNS usersync.sync_runs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$


-- function usersync.check_removals()
owner postgres; usersync: raises if a reconciling run would remove more rows than it may.
CREATE OR REPLACE FUNCTION usersync.check_removals()
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    counted record := usersync.count_removals();
begin
    if counted.removals > counted.allowed then
        raise exception 'usersync: % of % rows belong to users whom the auth server no longer has; at most % may be removed at once',
            counted.removals, counted.users, counted.allowed
            using errcode = 'US403', hint = 'If this is meant, run "usersync sync --removal-cap 1".';
    end if;
end;
$function$


-- function usersync.constrained_columns(text)
owner postgres; usersync: the columns of a constraint on the users table.
CREATE OR REPLACE FUNCTION usersync.constrained_columns(constraint_name text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    return (
        select string_agg(attname, ', ' order by attnum)
        from pg_attribute
        where attrelid = '"public"."users"'::regclass
            and attnum = any(coalesce(
                (select conkey from pg_constraint where conrelid = '"public"."users"'::regclass and conname = constrained_columns.constraint_name),
                (
                    select indkey::int2[]
                    from pg_index
                    join pg_class on pg_class.oid = indexrelid
                    where indrelid = '"public"."users"'::regclass and relname = constrained_columns.constraint_name
                )
            ))
    );
exception when others then
    return null;
end;
$function$


-- function usersync.count_removals()
owner postgres; usersync: how many rows belong to users who are gone, and how many a run may remove.
CREATE OR REPLACE FUNCTION usersync.count_removals(OUT removals bigint, OUT users bigint, OUT auth_users bigint, OUT allowed bigint)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$


-- function usersync.degrade_users(uuid[], text, text, text, text, text)
owner postgres; usersync: gives users whose row was refused a minimal row, and notes the reason.
CREATE OR REPLACE FUNCTION usersync.degrade_users(ids uuid[], reason text, failed_constraint text, failed_column text, error_message text, error_context text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
AS $function$
declare
    half integer := cardinality(ids) / 2;
    second_reason text;
begin
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
            usersync.constrained_columns(failed_constraint),
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
$function$


-- function usersync.fits(text, text)
owner postgres; usersync: whether a value can be had in a type.
CREATE OR REPLACE FUNCTION usersync.fits(value text, type_name text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$


-- function usersync.handle_deleted_user()
owner postgres; usersync: runs when the auth server deletes users, and applies on_delete to their rows.
CREATE OR REPLACE FUNCTION usersync.handle_deleted_user()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$


-- function usersync.handle_new_user()
owner postgres; usersync: runs when the auth server makes users, and gives each a row in the users table.
CREATE OR REPLACE FUNCTION usersync.handle_new_user()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    ids uuid[];
begin
    if tg_relid <> '"auth"."users"'::regclass then
        -- Somebody has put another relation in its place. What that would run, it would run as our owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
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
$function$


-- function usersync.handle_updated_user()
owner postgres; usersync: runs when the auth server changes a user, and follows where a mirrored value changed.
CREATE OR REPLACE FUNCTION usersync.handle_updated_user()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    ids uuid[];
begin
    if tg_relid <> '"auth"."users"'::regclass then
        -- Somebody has put another relation in its place. What that would run, it would run as our owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
    end if;
    if row(new."id", new."email", new."phone", coalesce(new."raw_user_meta_data" #> array['full_name'], new."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(new."raw_user_meta_data" #> array['avatar_url'], new."raw_user_meta_data" #> array['picture']) #>> '{}', new."is_anonymous", new."email_confirmed_at", new."phone_confirmed_at", new."banned_until", new."created_at", new."deleted_at") is distinct from row(old."id", old."email", old."phone", coalesce(old."raw_user_meta_data" #> array['full_name'], old."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(old."raw_user_meta_data" #> array['avatar_url'], old."raw_user_meta_data" #> array['picture']) #>> '{}', old."is_anonymous", old."email_confirmed_at", old."phone_confirmed_at", old."banned_until", old."created_at", old."deleted_at") then
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
$function$


-- function usersync.misfit_column(uuid)
owner postgres; usersync: names the column that a value of this user does not fit into.
CREATE OR REPLACE FUNCTION usersync.misfit_column(user_id uuid)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    name text;
    expression text;
begin
    for name, expression in
        select mapped.name, mapped.expression
        from unnest(array['id', 'email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at'], array['source."id"', 'source."email"', 'source."phone"', 'coalesce(source."raw_user_meta_data" #> array[''full_name''], source."raw_user_meta_data" #> array[''name'']) #>> ''{}''', 'coalesce(source."raw_user_meta_data" #> array[''avatar_url''], source."raw_user_meta_data" #> array[''picture'']) #>> ''{}''', 'source."is_anonymous"', 'source."email_confirmed_at"', 'source."phone_confirmed_at"', 'source."banned_until"', 'source."created_at"', 'source."deleted_at"']) as mapped (name, expression)
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
$function$


-- function usersync.note_unlike_users(uuid[])
owner postgres; usersync: notes which of these users have rows that differ from what was written.
CREATE OR REPLACE FUNCTION usersync.note_unlike_users(ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    alike record;
    unlike uuid[] := '{}';
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
$function$


-- function usersync.placeholder(text, uuid)
owner postgres; usersync: what a personal column of a deleted user holds: null, unless the column refuses null.
CREATE OR REPLACE FUNCTION usersync.placeholder(column_name text, user_id uuid)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$


-- function usersync.raised_below(text)
owner postgres; usersync: which function of the application raised, if one did.
CREATE OR REPLACE FUNCTION usersync.raised_below(error_context text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select substring(
        split_part(error_context, 'PL/pgSQL function usersync.', 1) from '(?:PL/pgSQL|SQL) function ([^\n]{1,200})'
    );
$function$


-- function usersync.reconcile_page(uuid, uuid, integer, boolean)
owner postgres; usersync: compares one page of both tables and brings the users table in line.
CREATE OR REPLACE FUNCTION usersync.reconcile_page(first_id uuid, last_id uuid, page_size integer, dry_run boolean, OUT next_id uuid, OUT examined bigint, OUT auth_users bigint, OUT users bigint, OUT missing bigint, OUT stale bigint, OUT orphaned bigint, OUT degraded bigint, OUT failed bigint, OUT oldest_missing timestamp with time zone, OUT differences jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
AS $function$
#variable_conflict use_column
declare
    page_end uuid;
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
        where failure.user_id between reconcile_page.first_id and reconcile_page.last_id
            and (reconcile_page.next_id is null or failure.user_id < reconcile_page.next_id)
    );

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
                array_remove(array[case when target."email" is distinct from source."email" then 'email' end, case when target."phone" is distinct from source."phone" then 'phone' end, case when target."full_name" is distinct from coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}' then 'full_name' end, case when target."avatar_url" is distinct from coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}' then 'avatar_url' end, case when target."is_anonymous" is distinct from source."is_anonymous" then 'is_anonymous' end, case when target."email_confirmed_at" is distinct from source."email_confirmed_at" then 'email_confirmed_at' end, case when target."phone_confirmed_at" is distinct from source."phone_confirmed_at" then 'phone_confirmed_at' end, case when target."banned_until" is distinct from source."banned_until" then 'banned_until' end, case when target."created_at" is distinct from source."created_at" then 'created_at' end, case when target."deleted_at" is distinct from source."deleted_at" then 'deleted_at' end]::text[], null) as differing,
                case
                    when source."id" is null or source."deleted_at" is not null then
                        case when target."id" is not null and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true then 'orphaned' end
                    when target."id" is null then 'missing'
                    when row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at") then 'stale'
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

    if not reconcile_page.dry_run then
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
        perform usersync.sync_users(differing_ids, 'PAGE');
        -- PostgreSQL itself may store something else than it was given, a text cut to its column's length.
        perform usersync.note_unlike_users(array(
            select unnest(stale_ids)
            except
            select failure.user_id from usersync.sync_failures as failure where failure.user_id = any(stale_ids)
        ));
    end if;

    select
        count(*) filter (where failure.outcome = 'degraded'),
        count(*) filter (where failure.outcome = 'failed')
    into reconcile_page.degraded, reconcile_page.failed
    from usersync.sync_failures as failure
    where failure.user_id between reconcile_page.first_id and reconcile_page.last_id
        and (reconcile_page.next_id is null or failure.user_id < reconcile_page.next_id);
end;
$function$


-- function usersync.record_failures(uuid[], text, text, text, text, text)
owner postgres; usersync: notes in the ledger why these users could not be synced.
CREATE OR REPLACE FUNCTION usersync.record_failures(ids uuid[], reason text, failed_constraint text, failed_column text, error_message text, raised_in text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    present uuid[] := '{}';
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
$function$


-- function usersync.remove_users(uuid[])
owner postgres; usersync: applies on_delete to the rows of users who are gone.
CREATE OR REPLACE FUNCTION usersync.remove_users(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    if 'anonymize' = 'keep' then
        return;
    end if;
    -- Once the rows are held, a statement of its own sees what the auth server's table holds by now. Whoever has
    -- just referenced a row does not stand in the way of emptying it.
    perform from "public"."users" as target where target."id" = any(remove_users.ids) for no key update;

    if 'anonymize' = 'delete' then
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
$function$


-- function usersync.start_run(uuid[], uuid[], integer)
owner postgres; usersync: opens a reconciling run.
CREATE OR REPLACE FUNCTION usersync.start_run(first_ids uuid[], last_ids uuid[], page_size integer)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    new_run uuid := gen_random_uuid();
begin
    delete from usersync.sync_runs as run where run.updated_at < now() - interval '90 days';
    insert into usersync.sync_runs (run_id, part, part_count, next_id, last_id, page_size)
    select new_run, range.part, cardinality(start_run.first_ids), range.first_id, range.last_id, start_run.page_size
    from unnest(start_run.first_ids, start_run.last_ids) with ordinality as range (first_id, last_id, part);
    return new_run;
end;
$function$


-- function usersync.sync_user(uuid)
owner postgres; usersync: brings one user in line.
CREATE OR REPLACE FUNCTION usersync.sync_user(user_id uuid, OUT known boolean, OUT alive boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    perform usersync.sync_users(array[user_id]);
    sync_user.alive := exists (
        select from "auth"."users" as source where source."id" = sync_user.user_id and source."deleted_at" is null
    );
    sync_user.known := alive or usersync.user_exists(user_id)
        or exists (select from "auth"."users" as source where source."id" = sync_user.user_id);
end;
$function$


-- function usersync.sync_users(uuid[], text)
owner postgres; usersync: brings the rows of these users in line; what cannot be written goes to usersync.sync_failures.
CREATE OR REPLACE FUNCTION usersync.sync_users(ids uuid[], fired_by text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
 SET enable_seqscan TO 'off'
AS $function$
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
    unlike uuid[] := '{}';
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
    begin
        if fired_by is distinct from 'INSERT' then
            written := usersync.write_rows(ids, held => coalesce(fired_by in ('UPDATE', 'DELETE'), false));
        else
            insert into "public"."users" as target ("id", "email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at")
            select source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at"
            from "auth"."users" as source
            where source."id" = any(sync_users.ids) and source."deleted_at" is null
            on conflict ("id") do update
                set ("email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at") = row(excluded."email", excluded."phone", excluded."full_name", excluded."avatar_url", excluded."is_anonymous", excluded."email_confirmed_at", excluded."phone_confirmed_at", excluded."banned_until", excluded."created_at", excluded."deleted_at")
                where row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(excluded."id", excluded."email", excluded."phone", excluded."full_name", excluded."avatar_url", excluded."is_anonymous", excluded."email_confirmed_at", excluded."phone_confirmed_at", excluded."banned_until", excluded."created_at", excluded."deleted_at");
            get diagnostics written = row_count;
        end if;

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
            select from pg_trigger
            where tgrelid in (
                select '"public"."users"'::regclass
                union all
                select inhrelid from pg_inherits where inhparent = '"public"."users"'::regclass
            ) and not tgisinternal
        );
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
$function$


-- function usersync.unlike_users(uuid[])
owner postgres; usersync: the users whose rows differ from what was written to them.
CREATE OR REPLACE FUNCTION usersync.unlike_users(ids uuid[], OUT user_id uuid, OUT sqlstate text, OUT column_names text, OUT message text)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
AS $function$
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
                then array_remove(array[case when target."email" is distinct from source."email" then 'email' end, case when target."phone" is distinct from source."phone" then 'phone' end, case when target."full_name" is distinct from coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}' then 'full_name' end, case when target."avatar_url" is distinct from coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}' then 'avatar_url' end, case when target."is_anonymous" is distinct from source."is_anonymous" then 'is_anonymous' end, case when target."email_confirmed_at" is distinct from source."email_confirmed_at" then 'email_confirmed_at' end, case when target."phone_confirmed_at" is distinct from source."phone_confirmed_at" then 'phone_confirmed_at' end, case when target."banned_until" is distinct from source."banned_until" then 'banned_until' end, case when target."created_at" is distinct from source."created_at" then 'created_at' end, case when target."deleted_at" is distinct from source."deleted_at" then 'deleted_at' end]::text[], null)
        end, ', '), ''),
        case
            when source."id" is null then
                'The user is gone, and the row is as it was: a trigger of the application skips the change.'
            when target."id" is null then
                'The row was written, and is not there: a trigger of the application skips or deletes it.'
            else format(
                'The row was written, and holds another value all the same: a trigger of the application changes '
                'what is written (as of %s).',
                left(md5(concat(triggers, row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at"), row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at"))), 8)
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
        else row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at")
    end;
end;
$function$


-- function usersync.unlocked_users(uuid[])
owner postgres; usersync: the users whose rows can be had without waiting.
CREATE OR REPLACE FUNCTION usersync.unlocked_users(ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
    return '{}';
end;
$function$


-- function usersync.user_exists(uuid)
owner postgres; usersync: whether this user has a row in the users table.
CREATE OR REPLACE FUNCTION usersync.user_exists(user_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    return exists (select from "public"."users" as target where target."id" = user_exists.user_id);
end;
$function$


-- function usersync.without_values(text, text)
owner postgres; usersync: an error message without the personal data that it may quote.
CREATE OR REPLACE FUNCTION usersync.without_values(reason text, message text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
AS $function$
    select left(regexp_replace(
        case
            when reason like '22%' then regexp_replace(message, '"(.*)"', '"…"')
            -- A quoted local part may hold spaces.
            else regexp_replace(message, '"[^"]*["]@', '@', 'g')
        end,
        '[^\s,;<>]*@[^\s,;<>]*', '<address>', 'g'
    ), 500);
$function$


-- function usersync.write_minimal_rows(uuid[])
owner postgres; usersync: inserts rows with the id and the columns that may not be null, where there are none.
CREATE OR REPLACE FUNCTION usersync.write_minimal_rows(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    column_list text;
    value_list text;
begin
    select string_agg(quote_ident(mapped.name), ', '), string_agg(mapped.expression, ', ')
    into column_list, value_list
    from unnest(array['id', 'email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at'], array['source."id"', 'source."email"', 'source."phone"', 'coalesce(source."raw_user_meta_data" #> array[''full_name''], source."raw_user_meta_data" #> array[''name'']) #>> ''{}''', 'coalesce(source."raw_user_meta_data" #> array[''avatar_url''], source."raw_user_meta_data" #> array[''picture'']) #>> ''{}''', 'source."is_anonymous"', 'source."email_confirmed_at"', 'source."phone_confirmed_at"', 'source."banned_until"', 'source."created_at"', 'source."deleted_at"']) as mapped (name, expression)
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
$function$


-- function usersync.write_rows(uuid[], boolean)
owner postgres; usersync: inserts and updates the rows of these users, and returns how many.
CREATE OR REPLACE FUNCTION usersync.write_rows(ids uuid[], held boolean)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
declare
    inserted bigint;
    updated bigint;
begin
    if not held then
        perform from "auth"."users" as source where source."id" = any(write_rows.ids) for key share;
    end if;

    insert into "public"."users" ("id", "email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at")
    select source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at"
    from "auth"."users" as source
    where source."id" = any(write_rows.ids)
        and source."deleted_at" is null
        and (select true from "public"."users" as target where target."id" = source."id") is null
    on conflict ("id") do nothing;
    get diagnostics inserted = row_count;
    if inserted = cardinality(ids) then
        return inserted;
    end if;

    if not held then
        perform from "public"."users" as target where target."id" = any(write_rows.ids) for no key update;
    end if;
    update "public"."users" as target
    set ("email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at") = (
        select source."email", source."phone", coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at" from "auth"."users" as source where source."id" = target."id"
    )
    where target."id" = any(write_rows.ids)
        and (
            select row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" #> array['full_name'], source."raw_user_meta_data" #> array['name']) #>> '{}', coalesce(source."raw_user_meta_data" #> array['avatar_url'], source."raw_user_meta_data" #> array['picture']) #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at")
            from "auth"."users" as source
            where source."id" = target."id" and source."deleted_at" is null
        );
    get diagnostics updated = row_count;
    return inserted + updated;
end;
$function$


-- schema usersync
owner postgres; usersync: keeps the application's users in step with the auth server's. Not for the Data API.

-- table public.users
kind r; owner postgres; rls t f; The application's users, created by usersync and kept in step with the auth server's. Deleting a user leaves the id behind, so that every reference holds.

-- table public.users column avatar_url
text

-- table public.users column banned_until
timestamp with time zone

-- table public.users column created_at
timestamp with time zone

-- table public.users column deleted_at
timestamp with time zone

-- table public.users column email
text

-- table public.users column email_confirmed_at
timestamp with time zone

-- table public.users column full_name
text

-- table public.users column id
uuid; not null

-- table public.users column is_anonymous
boolean

-- table public.users column phone
text

-- table public.users column phone_confirmed_at
timestamp with time zone

-- table public.users constraint users_pkey
PRIMARY KEY (id)

-- table public.users granted to authenticated
SELECT

-- table public.users granted to service_role
DELETE, INSERT, SELECT, UPDATE

-- table public.users index
CREATE UNIQUE INDEX users_pkey ON public.users USING btree (id)

-- table public.users policy "Users read their own row"
r to {authenticated} using ((( SELECT auth.uid() AS uid) = id) AND (( SELECT ((auth.jwt() ->> 'is_anonymous'::text))::boolean AS bool) IS NOT TRUE)) check 

-- table usersync.functions
kind r; owner postgres; rls f f; The functions as they were installed: the checksum of the text, and the fingerprint of what came of it.

-- table usersync.functions column checksum
text; not null

-- table usersync.functions column fingerprint
text; not null

-- table usersync.functions column installed_at
timestamp with time zone; not null; default now()

-- table usersync.functions column signature
text; not null

-- table usersync.functions constraint functions_pkey
PRIMARY KEY (signature)

-- table usersync.functions index
CREATE UNIQUE INDEX functions_pkey ON usersync.functions USING btree (signature)

-- table usersync.schema_version
kind r; owner postgres; rls f f; The migrations that were applied, with the checksum of each.

-- table usersync.schema_version column applied_at
timestamp with time zone; not null; default now()

-- table usersync.schema_version column checksum
text; not null

-- table usersync.schema_version column name
text; not null

-- table usersync.schema_version column version
integer; not null

-- table usersync.schema_version constraint schema_version_pkey
PRIMARY KEY (version)

-- table usersync.schema_version index
CREATE UNIQUE INDEX schema_version_pkey ON usersync.schema_version USING btree (version)

-- table usersync.settings
kind r; owner postgres; rls f f; The settings that the functions in this database were made from.

-- table usersync.settings column applied_at
timestamp with time zone; not null; default now()

-- table usersync.settings column only_row
boolean; not null; default true

-- table usersync.settings column settings
jsonb; not null

-- table usersync.settings constraint settings_only_row_check
CHECK (only_row)

-- table usersync.settings constraint settings_pkey
PRIMARY KEY (only_row)

-- table usersync.settings index
CREATE UNIQUE INDEX settings_pkey ON usersync.settings USING btree (only_row)

-- table usersync.sync_failures
kind r; owner postgres; rls f f; The ledger: users whose row is missing (failed) or holds less than it should (degraded), and why. Success removes the row. DETAIL of an error is never kept, because it holds e-mail addresses.

-- table usersync.sync_failures column attempts
integer; not null; default 1

-- table usersync.sync_failures column column_name
text

-- table usersync.sync_failures column constraint_name
text

-- table usersync.sync_failures column first_failed_at
timestamp with time zone; not null; default now()

-- table usersync.sync_failures column last_failed_at
timestamp with time zone; not null; default now()

-- table usersync.sync_failures column message
text; not null

-- table usersync.sync_failures column outcome
text; not null

-- table usersync.sync_failures column raised_in
text; The function that raised, where it was a function: usually a trigger of the application.

-- table usersync.sync_failures column sqlstate
text; not null

-- table usersync.sync_failures column user_id
uuid; not null

-- table usersync.sync_failures constraint sync_failures_outcome_check
CHECK ((outcome = ANY (ARRAY['degraded'::text, 'failed'::text])))

-- table usersync.sync_failures constraint sync_failures_pkey
PRIMARY KEY (user_id)

-- table usersync.sync_failures index
CREATE UNIQUE INDEX sync_failures_pkey ON usersync.sync_failures USING btree (user_id)

-- table usersync.sync_runs
kind r; owner postgres; rls f f; Reconciling runs, a row for each range of ids: how far it came (next_id) and what it found.

-- table usersync.sync_runs column degraded
bigint; not null; default 0

-- table usersync.sync_runs column examined
bigint; not null; default 0

-- table usersync.sync_runs column failed
bigint; not null; default 0

-- table usersync.sync_runs column last_id
uuid; not null

-- table usersync.sync_runs column missing
bigint; not null; default 0

-- table usersync.sync_runs column next_id
uuid

-- table usersync.sync_runs column orphaned
bigint; not null; default 0

-- table usersync.sync_runs column page_size
integer; not null

-- table usersync.sync_runs column part
integer; not null

-- table usersync.sync_runs column part_count
integer; not null

-- table usersync.sync_runs column run_id
uuid; not null

-- table usersync.sync_runs column stale
bigint; not null; default 0

-- table usersync.sync_runs column started_at
timestamp with time zone; not null; default now()

-- table usersync.sync_runs column started_by
text; not null; default current_setting('application_name'::text)

-- table usersync.sync_runs column state
text; not null; default 'running'::text

-- table usersync.sync_runs column updated_at
timestamp with time zone; not null; default now()

-- table usersync.sync_runs constraint sync_runs_page_size_check
CHECK ((page_size > 0))

-- table usersync.sync_runs constraint sync_runs_pkey
PRIMARY KEY (run_id, part)

-- table usersync.sync_runs constraint sync_runs_state_check
CHECK ((state = ANY (ARRAY['running'::text, 'interrupted'::text, 'finished'::text])))

-- table usersync.sync_runs index
CREATE UNIQUE INDEX sync_runs_pkey ON usersync.sync_runs USING btree (run_id, part)

-- trigger on_auth_user_created on auth.users
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users REFERENCING NEW TABLE AS new_users FOR EACH STATEMENT EXECUTE FUNCTION usersync.handle_new_user(); enabled O

-- trigger on_auth_user_deleted on auth.users
CREATE TRIGGER on_auth_user_deleted AFTER DELETE ON auth.users REFERENCING OLD TABLE AS old_users FOR EACH STATEMENT EXECUTE FUNCTION usersync.handle_deleted_user(); enabled O

-- trigger on_auth_user_updated on auth.users
CREATE TRIGGER on_auth_user_updated AFTER UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION usersync.handle_updated_user(); enabled O
