-- Trigger that keeps the audit log append-only. Three changes are allowed: the foreign key sets user_id to null after
-- the user is deleted; retention and erasure may change rows if they set usersync.maintaining in their transaction and
-- run as the owner.
create or replace function usersync.keep_audit_logs() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    generated text[];
begin
    if current_setting('usersync.maintaining', true) = 'audit'
        and pg_has_role((select relowner from pg_class where oid = tg_relid), 'USAGE')
    then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    if tg_op = 'UPDATE' then
        if old.user_id is not null and new.user_id is null then
            new.user_id := old.user_id;
            -- Compares the binary images, because types such as json have no equality. Generated columns are not
            -- computed yet.
            generated := array(select attname::text from pg_attribute where attrelid = tg_relid and attgenerated <> '');
            if (
                    new operator(pg_catalog.*=) old
                    or (to_jsonb(new) - generated)::text = (to_jsonb(old) - generated)::text
                )
                and not exists (select from "@users_table" as target where target."@key" = old.user_id)
            then
                new.user_id := null;
                return new;
            end if;
        end if;
    end if;
    raise exception 'the audit log is append-only: % is not allowed', tg_op
        using errcode = 'insufficient_privilege',
            hint = case tg_op
                -- TRUNCATE ... CASCADE of the users table also truncates every table that references it.
                when 'TRUNCATE' then 'TRUNCATE ... CASCADE of the users table reaches the audit log. Delete the users instead. '
                    'To empty the audit log of a test database: set usersync.maintaining = ''audit'''
                else 'For retention run: usersync audit prune'
            end;
end;
$usersync$;
comment on function usersync.keep_audit_logs() is 'usersync: keeps the audit log append-only.';
