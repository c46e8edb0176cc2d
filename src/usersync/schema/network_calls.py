"""Effects of triggers that a rollback does not undo: requests to other servers, and numbers of sequences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usersync.transports.steps import Steps

# The names in the text of the function ``caller``, and their schemas.
_WORDS = r"""
        cross join lateral (
            select lower(coalesce(pg_get_function_sqlbody(caller.oid), caller.prosrc)) as body
        ) as text
        cross join lateral regexp_split_to_table(text.body, '[^\w.]+') as word
        cross join lateral (select split_part(word, '.', -1) as name, split_part(word, '.', -2) as home)
            as part
"""


def _writes(verb: str) -> str:
    """SQL: whether the text writes to the table that it names. Dynamic SQL may do anything."""
    pattern = rf"""'\m{verb}\s+(only\s+)?("?\w+"?\.)?"?' || part.name || '\M'"""
    return rf"(text.body ~ '\mexecute\M' or text.body ~ ({pattern}))"


_INSERTS, _DELETES = _writes(r"insert\s+into"), _writes(r"delete\s+from")
_UPDATES = rf"({_writes('update')} or text.body ~ '\mdo\s+update\M')"

# From the triggers to the functions that they name, and to the triggers of the tables that these functions
# write to. A name that is built at run time is missed. ``event`` is the operation on the first table. Its
# deletions also fire triggers of tables whose foreign keys cascade.
_WALK = rf"""
    with recursive fired (relation, happens, event) as (
        select to_regclass(name)::oid, event, event
        from unnest(%(tables)s::text[]) as name
        cross join unnest(array['insert', 'update', 'delete']) as event
        where to_regclass(name) is not null
        union
        select conrelid, case confdeltype when 'c' then 'delete' else 'update' end, event
        from fired
        join pg_constraint on confrelid = relation
        where contype = 'f' and happens = 'delete' and confdeltype in ('c', 'n', 'd')
    ),
    reached (root, event, function, depth) as (
        select pg_trigger.oid, fired.event, tgfoid, 0
        from fired
        join pg_trigger on tgrelid = relation
        where not tgisinternal and tgenabled <> 'D'
            and tgtype & case happens when 'insert' then 4 when 'delete' then 8 else 16 end <> 0
        union
        select reached.root, reached.event, named.function, reached.depth + 1
        from reached
        join pg_proc as caller on caller.oid = reached.function
        {_WORDS}
        cross join lateral (
            select oid, pronamespace from pg_proc where proname = part.name
            union all
            select tgfoid, relnamespace from pg_trigger
            join pg_class on pg_class.oid = tgrelid
            where relname = part.name and not tgisinternal and tgenabled <> 'D' and (
                tgtype & 4 <> 0 and {_INSERTS}
                or tgtype & 8 <> 0 and {_DELETES}
                or tgtype & 16 <> 0 and {_UPDATES}
            )
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
    select
        array_agg(distinct reached.event) as events,
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
    group by pg_trigger.oid, reached.function, pg_proc.oid, pg_language.oid
    order by 3, 2, 4
"""

# A rollback does not return a sequence's number. This matters for an invoice number, and not for a key.
_NUMBERS = rf"""{_WALK},
    written as (
        select distinct each.event, pg_class.oid as relation, relkind
        from (select distinct function, event from reached) as each
        join pg_proc as caller on caller.oid = each.function
        {_WORDS}
        join pg_class on relname = part.name
            and (part.home = '' or relnamespace = to_regnamespace(quote_ident(part.home)))
        where relnamespace <> 'pg_catalog'::regnamespace
            and pronamespace <> all(array(select oid from pg_namespace where nspname in ('usersync', 'net')))
            and (relkind = 'S' or relkind in ('r', 'p') and {_INSERTS})
        union
        select 'insert', to_regclass(%(users_table)s)::oid, 'r'
    ),
    drawn as (
        select distinct written.event, pg_depend.objid as sequence, refobjid as relation,
            refobjsubid as number
        from written
        join pg_depend on deptype in ('a', 'i') and classid = 'pg_class'::regclass
            and refclassid = 'pg_class'::regclass and refobjsubid > 0
            and case relkind when 'S' then objid else refobjid end = written.relation
        join pg_class on pg_class.oid = objid and pg_class.relkind = 'S'
        union
        select event, relation, null, null
        from written
        where relkind = 'S' and not exists (
            select from pg_depend where classid = 'pg_class'::regclass and objid = written.relation
                and deptype in ('a', 'i')
        )
    )
    select
        array_agg(distinct event) as events,
        drawn.sequence::regclass::text as sequence,
        drawn.relation::regclass || '.' || quote_ident(attname) as column
    from drawn
    left join pg_attribute on attrelid = drawn.relation and attnum = drawn.number
    where not exists (
            select from pg_index
            where indrelid = drawn.relation and indisprimary and drawn.number = any(indkey)
        )
        and not exists (
            select from pg_constraint
            where contype = 'f' and confrelid = drawn.relation and drawn.number = any(confkey)
        )
    group by 2, 3
    order by 2, 3
"""

_ASKS_PG_NET = re.compile(r"\bnet\.http_|\bsupabase_functions\.http_request\b", re.IGNORECASE)
#: The result of ``network_use()`` for a trigger whose request is made immediately.
WAITS = "sends a request to another server and waits for the answer"
_ASKS_HTTP = re.compile(r"\bhttp(_(get|post|put|patch|delete|head))?\s*\(|\bdblink", re.IGNORECASE)


def network_use(trigger: Mapping[str, Any]) -> str | None:
    """How a trigger uses the network, in words; None if its text shows no use."""
    text = f"{trigger['function']} {trigger['body']}"
    if _ASKS_HTTP.search(_ASKS_PG_NET.sub("", text)):
        return WAITS
    if _ASKS_PG_NET.search(text):
        return "sends a request through pg_net, which tries it only once"
    return None


_EVERY_EVENT = frozenset({"insert", "update", "delete"})
_AT = {"insert": "sign-ups", "update": "changes", "delete": "deletions"}


@dataclass(frozen=True)
class SequenceUse:
    """A sequence from which a request takes a number that is data and not a key."""

    sequence: str
    #: The column that the number is for; None if a function takes it.
    column: str | None
    events: frozenset[str]

    def __str__(self) -> str:
        where = f" for {self.column}" if self.column else ""
        return f"a number of the sequence {self.sequence} is used{where}"


@dataclass(frozen=True)
class NetworkCall:
    """A trigger that uses the network, and the function that makes the request."""

    trigger: str
    table: str
    function: str
    what: str
    #: Whether the request is made immediately, not through a queue that is rolled back.
    is_immediate: bool
    #: The events on the first table that cause it: ``insert``, ``update``, ``delete``.
    events: frozenset[str] = _EVERY_EVENT

    def __str__(self) -> str:
        return f"the trigger {self.trigger} on {self.table}, in {self.function}, {self.what}"

    @property
    def waits_at(self) -> str:
        """The requests that cause it, in words: ``sign-ups and deletions``."""
        return " and ".join(words for event, words in _AT.items() if event in self.events)


def network_calls(tables: Sequence[str]) -> Steps[tuple[NetworkCall, ...]]:
    """The network calls of these tables' triggers, as far as the text of their functions shows."""
    found = []
    for row in (yield from query(_REACHED, tables=list(tables))):
        use = network_use(row)
        if use is None and row["can_do_anything"]:
            use = f"is written in {row['language']}, which is not restricted"
        if use is not None:
            is_immediate = use == WAITS or row["can_do_anything"]
            place = (row["trigger"], row["table"], row["function"])
            found.append(NetworkCall(*place, use, is_immediate, frozenset(row["events"])))
    return tuple(found)


def sequence_uses(tables: Sequence[str], users_table: str) -> Steps[tuple[SequenceUse, ...]]:
    """Sequences from which these tables' triggers, or a row of the users table, take numbers as data."""
    rows = yield from query(_NUMBERS, tables=list(tables), users_table=users_table)
    return tuple(SequenceUse(row["sequence"], row["column"], frozenset(row["events"])) for row in rows)
