-- Switches events of users on or off. wanted_by: what wants them, for example "settings". They are recorded while at
-- least one request exists, and with the old and new values of columns while a request wants values. Takes effect at
-- the auth server's next statement. No function is rendered anew.
create or replace function usersync.request_user_events(wanted_by text, wanted boolean, with_values boolean default false)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if wanted then
        insert into usersync.user_event_requests as request (wanted_by, with_values)
        values (request_user_events.wanted_by, coalesce(request_user_events.with_values, false))
        on conflict on constraint user_event_requests_pkey do update set with_values = excluded.with_values
        where request.with_values <> excluded.with_values;
    else
        delete from usersync.user_event_requests as request where request.wanted_by = request_user_events.wanted_by;
    end if;
    if found then
        -- Changes nothing, but makes PostgreSQL plan the calls of has_user_events again.
        alter table usersync.user_event_requests set (fillfactor = 100);
    end if;
end;
$usersync$;
comment on function usersync.request_user_events(text, boolean, boolean) is
    'usersync: switches events of users in the audit log on or off.';
