-- The user that an event is to be linked to: the one it names, else its actor where that is a user.
create or replace function usersync.user_of_event(user_id uuid, actor_type text, actor_id text) returns uuid
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $usersync$
select coalesce(
    user_id,
    case
        when coalesce(actor_type, 'user') = 'user'
            and actor_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
        then actor_id::uuid
    end
)
$usersync$;
comment on function usersync.user_of_event(uuid, text, text) is 'usersync: the user whom an event is linked to.';
