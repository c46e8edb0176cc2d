-- Tells failures to remove a row from failures to write one, and counts in a run the rows that it left alone.

alter table usersync.sync_failures add column if not exists kind text not null default 'row'
    check (kind in ('row', 'removal', 'event'));
comment on column usersync.sync_failures.kind is
    'What failed: row (the row is missing, or holds less than it should), removal (the row of a deleted user is as it '
    'was, though on_delete or on_soft_delete wants it otherwise), event (an event of the user).';
-- An earlier release kept no kind: of a user who is gone, or soft-deleted, it was the removal that failed.
update usersync.sync_failures as failure set kind = 'removal'
where failure.kind = 'row' and not exists (
    select from "@source_table" as source where source."id" = failure.user_id and source."deleted_at" is null
);

alter table usersync.sync_runs add column if not exists deleted_upstream bigint not null default 0;
