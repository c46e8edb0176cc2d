-- The events that signed-in users may read, newest first, for the Data API. A claim of the caller's token decides which,
-- so the caller cannot choose them; the policy of the log says the same. Each reader that the settings name has a
-- function of its own.
--
-- before and before_id: time and id of the last event of the previous page.
create or replace function public.audit_events_of_reader(
    before timestamptz default null, before_id uuid default null, page_size integer default 100
) returns table (
    id uuid, occurred_at timestamptz, action text, outcome text, severity text, actor_id text, actor_type text,
    on_behalf_of text, entity_type text, entity_id text, changes jsonb, ip inet
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return query
    select
        stored.id, stored.occurred_at, stored.action, stored.outcome, stored.severity, stored.actor_id, stored.actor_type,
        stored.on_behalf_of, stored.entity_type, stored.entity_id, stored.changes, stored.ip
    from "@audit_table" as stored
    where '@reader_condition'
        and (audit_events_of_reader.before is null or stored.occurred_at <= audit_events_of_reader.before)
        and (
            audit_events_of_reader.before is null
            or (stored.occurred_at, stored.id) < (
                audit_events_of_reader.before,
                coalesce(audit_events_of_reader.before_id, '00000000-0000-0000-0000-000000000000'))
        )
    order by stored.occurred_at desc, stored.id desc
    limit least(audit_events_of_reader.page_size, 1000);
end;
$usersync$;
comment on function public.audit_events_of_reader(timestamp with time zone, uuid, integer) is
    '@reader_comment';
