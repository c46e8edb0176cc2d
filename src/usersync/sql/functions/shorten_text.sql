-- The audit log's record of a long text: the beginning, and a marker with the hash of the whole text. Python's audit
-- code makes the same text.
create or replace function usersync.shorten_text(given text, kept integer) returns text
language sql immutable parallel safe strict
set search_path = pg_catalog, pg_temp
as $usersync$
select case
    when length(given) <= kept then given
    else left(given, kept) || U&'\2026 [cut: ' || length(given) || ' characters, sha256 '
        || encode(sha256(convert_to(given, 'UTF8')), 'hex') || ']'
end
$usersync$;
comment on function usersync.shorten_text(text, integer) is 'usersync: the audit log''s record of a long text.';
