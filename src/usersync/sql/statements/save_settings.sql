insert into usersync.settings (settings) values ('@settings'::jsonb)
on conflict (only_row) do update set settings = excluded.settings, applied_at = now()
where usersync.settings.settings is distinct from excluded.settings;
