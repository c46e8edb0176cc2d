"""Two clones of an application's database, one of them with usersync, and the differences between them.

Both get the same requests, and all rows of the application are compared. Ids of registered users are the same
in both. Times, and ids that the database generates, are not compared.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_DNS, UUID, uuid5

import psycopg
from psycopg import sql

from usersync.testing import GoTrue, GoTrueError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import ExitStack

    from usersync.testing import SupabaseDatabase

#: Columns of auth.users that an application can read and a trigger may change.
AUTH_COLUMNS = (
    "id", "email", "phone", "role", "raw_user_meta_data", "raw_app_meta_data", "is_anonymous",
    "email_confirmed_at", "phone_confirmed_at", "banned_until", "deleted_at", "invited_at",
)  # fmt: skip

_TABLES = """
    select relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
    order by relname
"""
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:?\d\d)?|Z)?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Ids of the user at an identity provider or in a wallet.
_SUBJECT = re.compile(r'"(sub|provider_id|address)": "[^"]*"')
#: usersync's log, if it was requested.
_LOG = re.compile(r"audit_logs(_.*)?")


def user_id(name: str) -> UUID:
    """The id of the user with this name, in both databases."""
    return uuid5(NAMESPACE_DNS, name)


class Side:
    """One of the databases."""

    def __init__(self, database: SupabaseDatabase, stack: ExitStack) -> None:
        self.database = database
        self.auth = stack.enter_context(GoTrue(database.dsn("supabase_auth_admin")))
        self.owner = stack.enter_context(database.connect("postgres"))
        self.admin = stack.enter_context(database.connect("supabase_admin"))
        for connection in (self.owner, self.admin):
            connection.prepare_threshold = None

    def request(self, act: Callable[[GoTrue], object]) -> str:
        """Make a request of the auth server: ``ok``, or the error."""
        try:
            act(self.auth)
        except GoTrueError as error:
            cause = error.__cause__
            return f"{error.status} {cause.sqlstate if isinstance(cause, psycopg.Error) else error}"
        return "ok"

    def execute(self, statement: str) -> str:
        """Run a statement of a migration as ``postgres``, or as the owner of what it alters."""
        try:
            self.owner.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            self.admin.execute(statement)  # Supabase allows postgres to drop these triggers
        except psycopg.Error as error:
            return f"{error.sqlstate} {error.diag.message_primary}"
        return "ok"

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All rows of the application and of ``auth.users``, by table."""
        columns = sql.SQL(", ").join(map(sql.Identifier, AUTH_COLUMNS))
        found = {"auth.users": self._json(sql.SQL("select {} from auth.users").format(columns))}
        for (name,) in self.admin.execute(_TABLES):
            found[f"public.{name}"] = self._json(
                sql.SQL("select * from public.{}").format(sql.Identifier(name))
            )
        return found

    def _json(self, query: sql.Composed) -> list[dict[str, Any]]:
        rows = self.admin.execute(sql.SQL("select to_jsonb(each) from ({}) as each").format(query))
        return [row for (row,) in rows]


class Twins:
    """Both databases. ``random`` are columns with random values."""

    def __init__(self, plain: Side, synced: Side, random: Collection[str] = ()) -> None:
        self.plain = plain
        self.synced = synced
        self.random = frozenset(random)
        self.names: dict[str, str] = {}
        #: Users who exist in only one of the databases, as apply announced.
        self.excluded_users: set[str] = set()
        #: Tables and columns (``public.people.bio``) that differ, as apply announced.
        self.announced: set[str] = set()

    def register(self, name: str) -> UUID:
        """The id of a user, which comparisons replace by the user's name."""
        self.names[str(user_id(name))] = name
        return user_id(name)

    def request(self, act: Callable[[GoTrue], object]) -> tuple[str, str]:
        """Make the same request in both databases. Returns the outcome without and with usersync."""
        return self.plain.request(act), self.synced.request(act)

    def execute(self, statement: str) -> tuple[str, str]:
        """Run the same statement of a migration in both."""
        return self.plain.execute(statement), self.synced.execute(statement)

    def differences(self) -> list[str]:
        """The differences between both databases, except announced ones, one line each."""
        return list(self.compared(self.plain.rows(), self.synced.rows()))

    def compared(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        """The differences between the rows of two databases, or of one database at two times."""
        lines = []
        for table in sorted({*before, *after} - self.announced):
            if table not in before and _LOG.fullmatch(table.removeprefix("public.")):
                continue
            one, two = (Counter(self._comparable(table, rows.get(table, ()))) for rows in (before, after))
            lines += [f"{table} - {row}" for row in sorted((one - two).elements())]
            lines += [f"{table} + {row}" for row in sorted((two - one).elements())]
        return lines

    def plain_has_rows(self, table: str) -> bool:
        """Whether the database without usersync has rows of registered users."""
        return any(name in json.dumps(row) for row in self.plain.rows().get(table, ()) for name in self.names)

    def _comparable(self, table: str, rows: Collection[Mapping[str, Any]]) -> list[str]:
        texts = []
        for row in rows:
            plain = {
                name: "<random>" if name in self.random and value is not None else value
                for name, value in row.items()
                if f"{table}.{name}" not in self.announced
            }
            text = json.dumps(plain, sort_keys=True)
            if not any(each in json.dumps(row) for each in self.excluded_users):
                text = _SUBJECT.sub(r'"\1": ""', text)
                texts.append(_TIME.sub("<time>", _UUID.sub(self._name, text)))
        return texts

    def _name(self, match: re.Match[str]) -> str:
        return f"<{self.names.get(match[0], 'uuid')}>"
