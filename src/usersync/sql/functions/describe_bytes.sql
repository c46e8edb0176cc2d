-- The audit log's record of a bytea value: all bytes up to 256, otherwise the hash. Python's audit code makes the same
-- text.
create or replace function usersync.describe_bytes(given bytea) returns text
language sql immutable parallel safe strict
set search_path = pg_catalog, pg_temp
as $usersync$
select '[bytes: ' || octet_length(given) || case
    when octet_length(given) <= 256 then ', base64 ' || translate(encode(given, 'base64'), E'\n', '')
    else ', sha256 ' || encode(sha256(given), 'hex')
end || ']'
$usersync$;
comment on function usersync.describe_bytes(bytea) is 'usersync: the audit log''s record of a bytea value.';
