-- Whether the transaction is usersync's alone, and ends with this call. Only the client knows: it sets
-- usersync.transaction to own, for this transaction. A call of one of our functions through the Data API is a
-- transaction of its own, too. In every other transaction the application's statements may come next: its deferred
-- checks are left for its COMMIT, and nothing is locked for longer than the call needs.
create or replace function usersync.owns_transaction() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $usersync$
    select coalesce(current_setting('usersync.transaction', true) = 'own', false)
        or coalesce(current_setting('request.path', true) ~ '^/rpc/', false)
            and substr(current_setting('request.path', true), 6) in ('@public_functions');
$usersync$;
comment on function usersync.owns_transaction() is
    'usersync: whether the transaction belongs to usersync, as the client has said.';
