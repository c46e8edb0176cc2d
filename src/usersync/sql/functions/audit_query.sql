-- The query for the events that match all filters, in the order of their times. It starts after the position "after".
create or replace function usersync.audit_query(wanted jsonb, after jsonb, oldest_first boolean) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    templates constant jsonb := '@audit_templates'::jsonb;
    event_time constant text := format(templates ->> 'time');
    tie constant text := format(templates ->> 'tie');
    direction constant text := case when oldest_first then 'asc' else 'desc' end;
    conditions text;
begin
    perform usersync.require_audit_log();
    if event_time is null then
        raise exception 'audit.columns: neither occurred_at nor recorded_at is mapped, so events have no order'
            using errcode = 'US101', hint = 'Map occurred_at to the column with the time.';
    end if;
    conditions := usersync.audit_conditions(wanted);
    if after is not null then
        -- The first condition is redundant: it lets an index be used.
        conditions := format('%1$s and %2$s %3$s= %4$L and (%2$s %3$s %4$L or %5$s %3$s %6$L)',
            conditions, event_time, case when oldest_first then '>' else '<' end, after ->> 'time', tie, after ->> 'tie');
    end if;
    return format('%1$s where %2$s order by %3$s %4$s, %5$s %4$s',
        format(templates ->> 'select'), conditions, event_time, direction, tie);
end;
$usersync$;
comment on function usersync.audit_query(jsonb, jsonb, boolean) is
    'usersync: the query for the events that match all filters, in the order of their times.';
