-- The OIDs of both tables; null if a table does not exist.
select to_regclass('@source_table')::oid::bigint as source, to_regclass('@users_table')::oid::bigint as users
