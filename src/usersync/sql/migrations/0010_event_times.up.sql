-- The whole of the years 1 to 9999 are times of events: 9999-12-31T23:59:59Z, by which many mean "for ever", was
-- rejected. No column is of this domain, so nothing is read or rewritten.

do $usersync$
begin
    alter domain usersync.event_time drop constraint if exists is_in_the_years_1_to_9999;
    alter domain usersync.event_time add constraint is_in_the_years_1_to_9999
        check (value >= '0001-01-01 00:00Z' and value < '10000-01-01 00:00Z');
end;
$usersync$;
