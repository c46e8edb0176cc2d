-- Raises if the row of one of these users is about to be deleted and has more than 5,000 audit events. Unlinking 5,000
-- events takes a quarter of a second and would delay the auth server. "usersync retry" finds the user in the failures
-- table and unlinks the events in batches.
create or replace function usersync.refuse_users_with_many_events(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    many boolean;
begin
    if usersync.audit_log() is null then
        return;
    end if;
    begin
        many := exists (
            select from unnest(ids) as going (id)
            where not exists (
                select from "@source_table" as source where source."id" = going.id and source."deleted_at" is null
            ) and exists (select from "@audit_table" as stored where '@is_audit_user' offset 5000)
        );
    exception when undefined_table or undefined_column then
        return;
    end;
    if many then
        raise exception 'more than 5000 audit events are linked to the user (to unlink them first: usersync retry)'
            using errcode = 'object_in_use';
    end if;
end;
$usersync$;
comment on function usersync.refuse_users_with_many_events(uuid[]) is
    'usersync: refuses the deletion of a user with very many audit events in the auth server''s transaction.';
