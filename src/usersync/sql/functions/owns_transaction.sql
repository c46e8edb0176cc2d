-- Whether the transaction is usersync's own and ends with this call. The client sets usersync.transaction to own in
-- such a transaction. A call of a usersync function through the Data API is a transaction of its own, too. In every
-- other transaction, statements of the application may follow: its deferred checks wait for its COMMIT, and locks are
-- not kept for longer than the call needs.
create or replace function usersync.owns_transaction() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $usersync$
    select coalesce(current_setting('usersync.transaction', true) = 'own', false)
        or coalesce(current_setting('request.path', true) ~ '^/rpc/', false)
            and substr(current_setting('request.path', true), 6) in ('@public_functions');
$usersync$;
comment on function usersync.owns_transaction() is 'usersync: whether the transaction is usersync''s own.';
