insert into usersync.settings (settings) values ('@settings'::jsonb)
on conflict (only_row) do update set settings = excluded.settings, applied_at = now()
where usersync.settings.settings is distinct from excluded.settings;
do $usersync$
begin
    perform usersync.request_user_events('settings', '@user_events_wanted', '@user_event_values');
end;
$usersync$;
