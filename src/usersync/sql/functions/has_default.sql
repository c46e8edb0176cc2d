-- Whether one of these columns has a DEFAULT. IMMUTABLE for the reason that takes_rows_as_given gives.
create or replace function usersync.has_default(relation regclass, column_names text[]) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
    select exists (
        select from pg_attribute
        where attrelid = relation and attname = any (column_names) and atthasdef and not attisdropped
    );
$usersync$;
comment on function usersync.has_default(regclass, text[]) is
    'usersync: whether one of these columns has a DEFAULT.';
