-- The feed of an audit log that is a table of the application: which events have no number yet.

do $usersync$
begin
    if to_regclass('usersync.missed_statements_seq') is null then
        -- A sequence, because a number that was taken stays taken if the transaction is rolled back.
        create sequence usersync.missed_statements_seq;
        comment on sequence usersync.missed_statements_seq is
            'How many INSERTs into the audit log of the application could not be noted. usersync.number_events then '
            'looks for events without a number.';
    end if;
end;
$usersync$;

create table if not exists usersync.noted_events (
    seq bigint not null default nextval('usersync.audit_log_seq'),
    xid xid8 not null default pg_current_xact_id(),
    event_id uuid not null,
    -- The id as the log has it, if it is another text than event_id.
    stored_id text,
    occurred_at timestamptz not null,
    -- Each value of seq is taken once, so an INSERT never waits for another transaction.
    primary key (xid, seq)
);
comment on table usersync.noted_events is
    'New events of an audit log that is a table of the application, until they have a number in the feed. Written by the '
    'trigger note_events on the log.';

create table if not exists usersync.noted_log (
    only_row boolean primary key default true check (only_row),
    log text not null,
    -- Whether the events that the log had before its trigger have their numbers.
    is_complete boolean not null default false,
    -- The sequence missed_statements_seq at the start of the last search.
    missed bigint not null default 0,
    -- A search for events without a number: it starts when the transactions before search_after have ended.
    is_searched boolean not null default true,
    search_after xid8,
    -- How far it is: the table (the log or a partition), and the next block; -1 after its last block.
    part text,
    block bigint not null default 0
);
comment on table usersync.noted_log is
    'The audit log of the application that has the trigger note_events, and how far it is searched for events without a '
    'number.';

alter table usersync.event_numbers add column if not exists stored_id text;
comment on column usersync.event_numbers.stored_id is
    'In an audit log that is a table of the application: the id as the log has it, if it is another text than event_id.';
