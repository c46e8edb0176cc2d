-- What usersync has taken over from a hand-written sync, so that taking usersync back brings it back.

create table if not exists usersync.adopted (
    kind text not null check (kind in ('trigger', 'search_path')),
    name text not null,
    function_name text not null,
    definition text not null,
    function_definition text not null,
    moved_to text,
    adopted_at timestamptz not null default now(),
    primary key (kind, name)
);
comment on table usersync.adopted is
    'Triggers on the auth server''s table that usersync has taken the place of, and functions whose search_path it '
    'has set, each as it was before. Rollback brings them back.';
comment on column usersync.adopted.function_definition is
    'What makes the function again, with its privileges, where it is gone by then.';
comment on column usersync.adopted.moved_to is
    'The name under which the trigger goes on running, where it does more than usersync does.';
