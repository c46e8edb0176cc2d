-- The status of the transaction that has written a row: xmin is the last 32 bits of its id, which is at most 2^31 away from
-- that of the current transaction. A row that is visible and still in progress was written by the current one.
create or replace function usersync.transaction_status(xmin xid, current_id bigint) returns text
language sql volatile
set search_path = pg_catalog, pg_temp
as $usersync$
    select pg_xact_status(
        (current_id - 2147483648 + ((xmin::text::bigint - current_id + 2147483648) & 4294967295))::text::xid8)
$usersync$;
comment on function usersync.transaction_status(xid, bigint) is
    'usersync: the status of the transaction that has written a row.';
