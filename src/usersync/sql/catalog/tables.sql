-- The two tables as the catalog numbers them; null for one that does not exist.
select to_regclass('@source_table')::oid::bigint as source, to_regclass('@users_table')::oid::bigint as users
