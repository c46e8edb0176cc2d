"""The whole installation as SQL: for psql, ``supabase db push``, Alembic, any driver, or a reviewer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.sql.expressions import literal
from usersync.sql.render import LOCK_KEY, render_bundle
from usersync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from usersync.config.settings import Settings
    from usersync.sql.render import Bundle, Function, Migration


def bookkeeping_of_migration(migration: Migration) -> str:
    """Records a migration. ``apply`` runs it before the migration: a second installer waits for it."""
    values = ", ".join(literal(value) for value in (migration.version, migration.name, migration.checksum))
    return (
        f"insert into usersync.schema_version (version, name, checksum) values ({values})\n"
        "on conflict (version) do nothing;\n"
    )


def bookkeeping_of_function(function: Function) -> str:
    """Records a function that was just created, with its fingerprint in the catalog."""
    return (
        "insert into usersync.functions (signature, checksum, fingerprint)\n"
        f"select {literal(function.signature)}, {literal(function.checksum)}, "
        "md5(concat_ws('|', prosrc, prosecdef, provolatile, array_to_string(proconfig, ',')))\n"
        f"from pg_catalog.pg_proc where oid = {literal(function.signature)}::regprocedure\n"
        "on conflict (signature) do update set checksum = excluded.checksum, "
        "fingerprint = excluded.fingerprint, installed_at = now();\n"
    )


#: Ends a part of a migration: the next part runs in a transaction of its own.
NEXT_TRANSACTION = "-- The next transaction."


def install_script(settings: Settings) -> tuple[str, ...]:
    """The texts to run in this order, each in its own transaction. Usually there is one.

    Each text is one DO statement. So it is atomic without BEGIN and COMMIT, in an open transaction too, and
    drivers that prepare every statement accept it. It contains no ``%`` and no ``:word``, which drivers take
    for parameters, and leaves no setting behind. It can be run again at any time: existing objects stay or
    are replaced in place.
    """
    groups = install_parts(settings)
    return tuple(_text(parts, number, len(groups)) for number, parts in enumerate(groups, 1))


def install_parts(settings: Settings) -> list[list[str]]:
    """The SQL of each text, in parts."""
    bundle = render_bundle(settings)
    groups = [[_guard(bundle), bundle.bootstrap]]
    for migration in bundle.migrations:
        first, *rest = migration.up.split(f"{NEXT_TRANSACTION}\n")
        groups[-1].append(first)
        groups += [[part] for part in rest]
        # After all parts, so that a migration that was stopped between them is repeated.
        groups[-1].append(bookkeeping_of_migration(migration))
    groups[-1] += [
        bundle.create_users_table,
        *(each.text + bookkeeping_of_function(each) for each in bundle.functions),
        _drop_old_functions(bundle),
        bundle.set_privileges,
        bundle.save_settings,
        bundle.create_audit_table,
        bundle.read_new_indexes,
        *([bundle.note_events] if settings.audit.feed and not settings.audit.is_own else []),
        "-- Last, because each of them locks the auth server's table against writes until the end.\n",
        *(_trigger(name, sql, settings) for name, sql in bundle.triggers),
    ]
    return groups


def _text(parts: Iterable[str], number: int, of: int) -> str:
    head = [
        f"-- usersync {__version__}: installs or upgrades everything, and can be run again.",
        "-- Made by: usersync sql. Do not edit. To change it, edit usersync.toml and run the command again.",
    ]
    if of > 1:
        head.append(f"-- Text {number} of {of}. Run them in this order, each in its own transaction.")
    return one_statement(head, parts)


def one_statement(head: Sequence[str], parts: Iterable[str]) -> str:
    """One DO statement that runs the parts, below the lines of ``head``."""
    head, body = list(head), "\n".join(map(_statement, parts))
    if "{percent}" in body or "{colon}" in body:
        head.append(
            "-- {percent} and {colon} stand for these characters, which database drivers take for parameters."
        )
    begin = _BEGIN.replace("--check--\n", "" if body.isascii() else _CHECK_ENCODING)
    begin = begin.replace("--key--", str(LOCK_KEY))
    return "\n".join([*head, begin + body + _END])


#: What drivers and SQLAlchemy's text() take for a parameter, or change.
_PARAMETER = re.compile(r"(?<![:\w$]):(?=[\w$])|(?<=\\):")


def _statement(part: str) -> str:
    """The part as statements of a PL/pgSQL block, without characters that drivers take for parameters."""
    percent, colon = (_unused(name, part) for name in ("percent", "colon"))
    encoded = _PARAMETER.sub(colon, part.replace("%", percent))
    if encoded == part:
        return part
    restored = f"$step$\n{encoded}$step$"
    for mark, code in ((percent, 37), (colon, 58)):
        if mark in encoded:
            restored = f"replace({restored}, '{mark}', chr({code}))"
    return f"execute {restored};\n"


def _unused(name: str, text: str) -> str:
    mark = f"{{{name}}}"
    while mark in text:
        mark = f"{{{mark}}}"
    return mark


_BEGIN = """
do $install$
declare
    caller_search_path constant text := pg_catalog.current_setting('search_path');
    caller_lock_timeout constant text := pg_catalog.current_setting('lock_timeout');
begin
perform pg_catalog.set_config('search_path', 'pg_catalog', true);
--check--
perform set_config('lock_timeout', '120s', true);
perform pg_advisory_xact_lock(--key--);
perform set_config('lock_timeout', '2s', true);

"""

_CHECK_ENCODING = """\
if length('é') <> 1 then
    raise exception 'usersync: this text is in UTF-8, and the client has another encoding'
        using hint = 'Set PGCLIENTENCODING=UTF8 in the environment of psql.';
end if;
"""

_END = """
perform set_config('lock_timeout', caller_lock_timeout, true);
perform set_config('search_path', caller_search_path, true);
end;
$install$;
"""


def _drop_old_functions(bundle: Bundle) -> str:
    """Drops the functions of earlier releases, as apply does; those of tracked tables stay."""
    known = ", ".join(literal(each.signature) for each in bundle.functions)
    return f"""do $usersync$
declare
    old record;
begin
    for old in
        select installed.signature, to_regprocedure(installed.signature) as oid
        from usersync.functions as installed
        where installed.signature <> all(array[{known}])
    loop
        if old.oid is not null and starts_with(obj_description(old.oid, 'pg_proc'), 'usersync: ') then
            execute 'drop function ' || old.oid::regprocedure::text;
        end if;
        delete from usersync.functions as installed where installed.signature = old.signature;
    end loop;
end;
$usersync$;
"""


def _trigger(usual_name: str, sql: str, settings: Settings) -> str:
    """Creates a trigger under its present name, which apply has chosen because of the other triggers."""
    rest = sql.partition(usual_name)[2].rstrip(";\n ")
    function = sql.rpartition("execute function ")[2].rstrip(";\n ")
    return f"""do $usersync$
declare
    present name := (
        select tgname from pg_trigger
        where tgrelid = {literal(settings.source_table.quoted)}::regclass
            and tgfoid = {literal(function)}::regprocedure and not tgisinternal
        order by tgname <> {literal(usual_name)}, tgname limit 1
    );
begin
    execute 'create or replace trigger ' || quote_ident(coalesce(present, {literal(usual_name)}))
        || $trigger${rest}$trigger$;
end;
$usersync$;
"""


def _numeric(version: str) -> str:
    """The leading numbers of a version: a pre-release counts as its release."""
    found = re.match(r"\d+(\.\d+)*", version)
    return found[0] if found else "0"


def _guard(bundle: Bundle) -> str:
    """Stops the script if another object has one of usersync's names, or a newer usersync is installed."""
    known = ", ".join(
        f"({literal(migration.version)}, {literal(migration.checksum)})" for migration in bundle.migrations
    )
    return f"""do $usersync$
declare
    conflict record;
    installed text;
begin
    for conflict in
{bundle.conflicts.rstrip()}
    loop
        raise exception 'usersync: the % % is not usersync''s', conflict.kind, conflict.name
            using hint = 'Connect usersync to this database. To see what to do, run: usersync plan';
    end loop;
    if exists (
        select from pg_class
        where relnamespace = to_regnamespace('usersync') and relname in ('settings', 'schema_version')
            and (relkind <> 'r' or not pg_has_role(relowner, 'USAGE'))
    ) then
        raise exception 'usersync: there is a schema usersync that is not usersync''s';
    end if;
    if to_regclass('usersync.settings') is not null then
        select only_row.settings ->> 'library_version' into installed from usersync.settings as only_row;
        if string_to_array(substring(installed from '^[0-9.]*[0-9]'), '.')::integer[]
            > string_to_array({literal(_numeric(__version__))}, '.')::integer[]
        then
            raise exception 'usersync: % is installed, the script is of the older {__version__}', installed;
        end if;
    end if;
    if to_regclass('usersync.adopted') is not null then
        if exists (select from usersync.adopted where adopted.moved_to is not null) then
            raise exception 'usersync: an earlier release has renamed a trigger of the application'
                using hint = 'To give the trigger its name back, run: usersync apply';
        end if;
    end if;
    if to_regclass('usersync.schema_version') is not null then
        if exists (
            select from usersync.schema_version as applied
            where (applied.version, applied.checksum) not in ({known})
        ) then
            raise exception 'usersync: a migration is applied that usersync {__version__} does not have'
                using hint = 'Upgrade usersync, or install an unmodified release.';
        end if;
    end if;
end;
$usersync$;
"""
