-- How many users of the copy the admin API has not listed since a time, and how many users the copy has.
create or replace function usersync.count_unlisted(
    since timestamptz, out unseen bigint, out users bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    select count(*) filter (where stored.seen_at < count_unlisted.since), count(*)
    into count_unlisted.unseen, count_unlisted.users
    from usersync.auth_users as stored;
end;
$usersync$;
comment on function usersync.count_unlisted(timestamp with time zone) is
    'usersync: how many users of the copy the admin API has not listed since a time.';
