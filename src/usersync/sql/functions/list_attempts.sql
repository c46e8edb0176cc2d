-- A page of the attempts of a subscription, the newest first: those of one event, or of all. It starts after the attempt
-- with the given attempt_id.
create or replace function usersync.list_attempts(subscription text, event_id uuid, before bigint, page_size integer)
returns setof usersync.delivery_attempts
language sql stable
set search_path = pg_catalog, pg_temp
-- The table grows from empty to many rows while its statistics are old.
set enable_seqscan = off
as $usersync$
    select * from usersync.delivery_attempts as made
    where made.subscription = list_attempts.subscription
        and (list_attempts.event_id is null or made.event_id = list_attempts.event_id)
        and (list_attempts.before is null or made.attempt_id < list_attempts.before)
    order by made.attempt_id desc
    limit list_attempts.page_size;
$usersync$;
comment on function usersync.list_attempts(text, uuid, bigint, integer) is
    'usersync: a page of the attempts of a subscription.';
