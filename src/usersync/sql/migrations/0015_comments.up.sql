-- The comments of usersync's tables, in the terms of the documentation. The first words of the comment of
-- usersync.audit_rejects stay: migration 0002 finds the table by them after a rollback that left it.

comment on table usersync.sync_failures is
    'The failures table: users without a row (failed) or with an incomplete row (degraded), deleted users whose row was not '
    'removed, and events of users that were not stored; each with the reason. A later success deletes the failure. The '
    'DETAIL of an error is not kept, because it contains e-mail addresses.';
comment on column usersync.sync_failures.raised_in is
    'The function that raised the error, if a function did: usually that of a trigger of the application.';
comment on column usersync.sync_failures.kind is
    'What failed: row (the row is missing or incomplete), removal (the row of a deleted user was not removed as on_delete '
    'or on_soft_delete says), event (an event of the user was not stored).';
comment on column usersync.sync_failures.next_try_at is
    'No run retries the user before this time; null: the next run does. "usersync retry" ignores it.';
comment on table usersync.sync_runs is
    'Runs of "usersync sync": a row for each range of ids, with its progress (next_id) and what was found.';
comment on table usersync.settings is 'The settings with which the functions in this database were rendered.';
comment on column usersync.settings.installation is
    'The id of this installation. A spool of audit events stores it, and delivers to no other installation.';
comment on table usersync.audit_rejects is
    'Events that could not be stored because of what they contain, each with the reason. To store an event, correct it '
    'and pass it to public.record_audit_events again.';
comment on table usersync.adopted is
    'Triggers on the auth server''s table that usersync has replaced, and functions whose search_path it has set, each as '
    'it was before. "usersync rollback" restores them.';
comment on column usersync.adopted.function_definition is
    'The statements that create the function again, with its privileges, if it no longer exists.';
comment on column usersync.adopted.moved_to is
    'The new name of a trigger that still runs, because it does more than usersync does.';
comment on table usersync.auth_users is
    'A copy of the auth server''s users, as its admin API returned them; seen_at is the time of the last answer.';
comment on table usersync.pause is
    'One row while usersync is paused: since when, and by whom. Meanwhile the triggers only record users in '
    'usersync.sync_failures, with the SQLSTATE US004.';
comment on table usersync.user_event_requests is
    'What requests events of users in the audit log: the settings ([audit] user_events), and callers of '
    'usersync.request_user_events. While the table is empty, usersync records none.';
comment on table usersync.feed is 'How far the events of the audit log are numbered. Empty until the feed is read.';
