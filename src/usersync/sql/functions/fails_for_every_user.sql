-- Whether the auth server's transaction has seen so many users refused for the same SQLSTATE, constraint and column,
-- one after another and none accepted between, that the fault is the schema's: then looking for the rows that can be
-- written finds none, and takes long. counts: counts this one in.
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
    'usersync: whether users are refused whoever they are.';
