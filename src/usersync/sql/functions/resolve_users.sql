-- Creates missing rows of these users and locks the rows, so that a foreign key to them is valid until the transaction
-- ends. Returns each user, with the problem if the user has no row.
--
-- Raises nothing by default. usersync.user_links changes this: wait raises if a user is only locked, so that the sender
-- tries again; give_up links users who have rows and creates none, so that no trigger of the application runs; unlink
-- links no user.
create or replace function usersync.resolve_users(ids uuid[]) returns table (user_id uuid, problem text)
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
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
    if current_setting('usersync.user_links', true) = 'unlink' then
        return query
        select unnest(ids), '23503 the foreign key of the audit log does not accept the user (usersync doctor --only D025)';
        return;
    end if;
    select locking.locked_ids, locking.problem into present, trouble from usersync.lock_user_rows(ids) as locking;
    begin
        if given_up then
            trouble := coalesce(trouble, 'given up after several attempts');
        elsif cardinality(present) < cardinality(ids) then
            absent := array(
                select unnest(ids)
                except
                select target."@key"::uuid from "@users_table" as target
                where target."@key" = any(resolve_users.ids::"@key_type"[])
            );
            perform usersync.sync_on_request(absent, 'ENSURE');
            present := present || (select locking.locked_ids from usersync.lock_user_rows(absent) as locking);
        end if;
        absent := array(select unnest(ids) except select unnest(present));
        if cardinality(absent) > 0 then
            problems := array(
                select coalesce(
                    failure.sqlstate || ' ' || failure.message,
                    case
                        when source."id" is null then 'the auth server has no such user'
                        when source."deleted_at" is not null then 'the user is deleted'
                        when ('@is_expected') is not true then 'skipped'
                    end,
                    trouble,
                    'the user has no row: the sync created none and reported no failure')
                from unnest(absent) with ordinality as wanted (id, position)
                left join usersync.sync_failures as failure
                    on failure.user_id = wanted.id and failure.outcome = 'failed' and failure.kind <> 'event'
                left join "@source_table" as source on source."id" = wanted.id
                order by wanted.position
            );
        end if;
    exception when others or assert_failure then
        trouble := coalesce(trouble, sqlstate || ' ' || sqlerrm);
        absent := array(select unnest(ids) except select unnest(present));
        problems := array_fill(trouble, array[cardinality(absent)]);
    end;
    if current_setting('usersync.user_links', true) = 'wait' then
        -- Both errors are temporary: a lock, and a row that was changed after the snapshot of a transaction above READ
        -- COMMITTED.
        select each_problem into trouble from unnest(problems) as each_problem
        where substr(each_problem, 1, 6) in ('55P03 ', '40001 ') limit 1;
        if found then
            raise exception using errcode = left(trouble, 5), message = substr(trouble, 7);
        end if;
    end if;
    return query
    select locked.id, null::text from unnest(present) as locked (id)
    union all
    select lacking.id, lacking.problem from unnest(absent, problems) as lacking (id, problem);
end;
$usersync$;
comment on function usersync.resolve_users(uuid[]) is
    'usersync: makes sure that these users have rows, and returns the reason for those without one.';
