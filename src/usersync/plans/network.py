"""What triggers come to: the network, for which a sign-up waits and no rollback helps, and other tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.plans.init.surroundings import WAITS, network_use
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usersync.transports.steps import Plan

# What the text of the function ``caller`` names, and in which schema.
_WORDS = r"""
        cross join lateral regexp_split_to_table(
            lower(coalesce(pg_get_function_sqlbody(caller.oid), caller.prosrc)), '[^\w.]+'
        ) as word
        cross join lateral (select split_part(word, '.', -1) as name, split_part(word, '.', -2) as home)
            as part
"""

# From the triggers to the functions that they name, and to the triggers of the tables that they name, all of
# it by name, so that what is built together at run time is missed, and one that is only mentioned counts.
_WALK = f"""
    with recursive reached (root, function, depth) as (
        select oid, tgfoid, 0
        from pg_trigger
        where tgrelid = any(array(select to_regclass(name) from unnest(%(tables)s::text[]) as name))
            and not tgisinternal and tgenabled <> 'D'
        union
        select reached.root, named.function, reached.depth + 1
        from reached
        join pg_proc as caller on caller.oid = reached.function
        {_WORDS}
        cross join lateral (
            select oid, pronamespace from pg_proc where proname = part.name
            union all
            select tgfoid, relnamespace from pg_trigger
            join pg_class on pg_class.oid = tgrelid
            where relname = part.name and not tgisinternal and tgenabled <> 'D'
        ) as named (function, home)
        where reached.depth < 4
            and caller.pronamespace <> all(array(
                select oid from pg_namespace where nspname in ('usersync', 'net', 'supabase_functions')
            ))
            and named.home <> 'pg_catalog'::regnamespace
            and (part.home = '' or named.home = to_regnamespace(quote_ident(part.home)))
    )
"""

_REACHED = f"""{_WALK}
    select distinct
        tgname as trigger,
        tgrelid::regclass::text as table,
        reached.function::regprocedure::text as function,
        coalesce(pg_get_function_sqlbody(pg_proc.oid), prosrc) as body,
        lanname as language,
        not lanpltrusted and lanname not in ('internal', 'c') as can_do_anything
    from reached
    join pg_trigger on pg_trigger.oid = reached.root
    join pg_proc on pg_proc.oid = reached.function
    join pg_language on pg_language.oid = prolang
    where pronamespace <> all(array(select oid from pg_namespace where nspname in ('usersync', 'net')))
    order by 2, 1, 3
"""

_NAMED = f"""{_WALK}
    select distinct pg_class.oid::regclass::text as name
    from (select distinct function from reached) as each
    join pg_proc as caller on caller.oid = each.function
    {_WORDS}
    join pg_class on relname = part.name
        and (part.home = '' or relnamespace = to_regnamespace(quote_ident(part.home)))
    where relkind in ('r', 'p', 'S') and relnamespace <> 'pg_catalog'::regnamespace
        and pronamespace <> all(array(select oid from pg_namespace where nspname in ('usersync', 'net')))
    order by name
"""


@dataclass(frozen=True)
class Caller:
    """A trigger that asks the network, and the function in which it does."""

    trigger: str
    table: str
    function: str
    what: str
    #: Whether it is done at once, and not by a queue that is rolled back.
    at_once: bool
    #: The events on the first table that lead to it: ``insert``, ``update``, ``delete``.
    events: frozenset[str] = frozenset({"insert", "update", "delete"})

    def __str__(self) -> str:
        return f"the trigger {self.trigger} on {self.table}, in {self.function}, {self.what}"


def callers(tables: Sequence[str]) -> Plan[tuple[Caller, ...]]:
    """Those of these tables, as far as their functions' texts show."""
    found = []
    for row in (yield from query(_REACHED, tables=list(tables))):
        use = network_use(row)
        if use is None and row["can_do_anything"]:
            use = f"is written in {row['language']}, which can do anything"
        if use is not None:
            at_once = use == WAITS or row["can_do_anything"]
            found.append(Caller(row["trigger"], row["table"], row["function"], use, at_once))
    return tuple(found)


def named_relations(tables: Sequence[str]) -> Plan[list[str]]:
    """Tables and sequences in the texts of functions that these tables' triggers come to run, but usersync's.

    In SQL's quotes where need be, and with the schema unless the search path finds them without. One that is
    only read, or mentioned, counts as well.
    """
    return [row["name"] for row in (yield from query(_NAMED, tables=list(tables)))]
