-- A page of the attempts of a subscription, the newest first: of one event, or of all. "before" is the attempt_id of the
-- last attempt of the previous page.
create or replace function usersync.list_attempts(subscription text, event_id uuid, before bigint, page_size integer)
returns setof usersync.delivery_attempts
language sql stable
set search_path = pg_catalog, pg_temp
-- The planner's statistics may be old: the table can grow from empty to many rows before the next ANALYZE.
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
