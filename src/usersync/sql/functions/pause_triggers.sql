-- Pauses usersync: from the auth server's next statement on, the triggers record changed users and do not sync them.
-- Returns the start of the pause and who started it. An earlier pause stays.
create or replace function usersync.pause_triggers(paused_by text, out paused_at timestamptz, out "by" text, out is_new boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    insert into usersync.pause (paused_by)
    values (coalesce(pause_triggers.paused_by, session_user)) on conflict (only_row) do nothing;
    pause_triggers.is_new := found;
    -- Changes nothing, but makes PostgreSQL plan the calls of has_pause again.
    alter table usersync.pause set (fillfactor = 100);
    select pause.paused_at, pause.paused_by into strict pause_triggers.paused_at, pause_triggers."by"
    from usersync.pause;
    if pause_triggers.is_new then
        perform usersync.record_admin_action('usersync.paused', jsonb_build_object('by', pause_triggers."by"));
    end if;
end;
$usersync$;
comment on function usersync.pause_triggers(text) is
    'usersync: makes the triggers record changed users instead of syncing them.';
