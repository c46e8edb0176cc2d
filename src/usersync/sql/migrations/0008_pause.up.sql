-- Says whether the triggers are paused: this table has one row then, and none otherwise.

create table if not exists usersync.pause (
    only_row boolean primary key default true check (only_row),
    paused_at timestamptz not null default now(),
    paused_by text not null
);
comment on table usersync.pause is
    'One row while usersync is paused: since when, and by whom. The triggers then only note what happens, in '
    'usersync.sync_failures, with the SQLSTATE US004.';
