-- Whether eight users in a row were refused in this transaction for the same SQLSTATE, constraint and column, and no
-- user was accepted in between. Then the schema is the cause, and a search for rows that can be written would take long
-- and find none. counts: adds this refusal to the count.
create or replace function usersync.fails_for_every_user(cause text, counts boolean) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    refusals text := coalesce(current_setting('usersync.refusals', true), '');
begin
    if counts then
        refusals := case when rtrim(refusals, '.') = cause then refusals else cause end || '.';
        perform set_config('usersync.refusals', refusals, true);
    end if;
    return starts_with(refusals, cause || '........');
end;
$usersync$;
comment on function usersync.fails_for_every_user(text, boolean) is
    'usersync: whether every user is refused for the same reason.';
