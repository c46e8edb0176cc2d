-- Ends the pause: from the auth server's next statement on, the triggers sync users again. Returns the start of the
-- pause and who started it; null if usersync was not paused.
create or replace function usersync.resume_triggers(resumed_by text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    ended jsonb;
begin
    delete from usersync.pause
    returning jsonb_build_object('paused_at', pause.paused_at, 'by', pause.paused_by) into ended;
    -- See pause_triggers.
    alter table usersync.pause set (fillfactor = 100);
    if ended is not null then
        perform usersync.record_admin_action('usersync.resumed', jsonb_strip_nulls(jsonb_build_object(
            'by', resumed_by, 'paused_at', ended -> 'paused_at', 'paused_by', ended -> 'by')));
    end if;
    return ended;
end;
$usersync$;
comment on function usersync.resume_triggers(text) is
    'usersync: makes the triggers sync users again.';
