-- Keeps a user who fails again and again from being tried in every run.

alter table usersync.sync_failures add column if not exists next_try_at timestamptz;
comment on column usersync.sync_failures.next_try_at is
    'Before this time no run tries the user; null: the next run does. "usersync retry" tries everybody.';
