"""What usersync adds to a sign-up, a sign-in and an import, against hand-written triggers and no trigger.

Thousands of single-row statements run in one transaction, so that only the trigger is measured: a real
sign-up hashes a password and commits, which takes much longer. Some are measured with the commit too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from measuring import (
    Row,
    medians,
    over,
    plain,
    share,
    slower,
    superuser_of,
    take_turns,
    timed,
    wal_bytes,
)
from usersync.config.settings import Settings, parse_settings
from usersync.testing import GoTrue
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from measuring import Lab, Times
    from usersync.testing import SupabaseDatabase

COLUMNS = "instance_id, id, aud, role, email, raw_app_meta_data, raw_user_meta_data, created_at, updated_at"
VALUES = """
    '00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'authenticated', 'authenticated',
    'user' || {number} || '@example.com', '{{"provider": "email", "providers": ["email"]}}',
    '{{"full_name": "Ada Lovelace", "avatar_url": "https://example.com/a.png"}}', now(), now()
"""
# Addresses are in random order for sign-ups, and in the file's order for imports.
ONE, OF_MANY = VALUES.format(number="gen_random_uuid()"), VALUES.format(number="n")

SIGN_UPS = f"""do $$ begin for n in 1..%d loop
    insert into auth.users ({COLUMNS}) values ({ONE});
end loop; end $$"""
SIGN_INS = """do $$ declare each uuid; begin for each in select id from auth.users limit %d loop
    update auth.users set last_sign_in_at = clock_timestamp(), updated_at = clock_timestamp() where id = each;
end loop; end $$"""
IMPORT = f"insert into auth.users ({COLUMNS}) select {OF_MANY} from generate_series(1, %d) as n"
SIGN_UP = f"insert into auth.users ({COLUMNS}) values ({ONE})"
SIGN_IN = (
    "update auth.users set last_sign_in_at = clock_timestamp(), updated_at = clock_timestamp() where id = %s"
)

# The common hand-written trigger, with the columns of its usual versions. It protects nothing.
HAND_WRITTEN = """
    create table public.users (id uuid primary key, email text, full_name text, avatar_url text);
    create function public.handle_new_user() returns trigger
    language plpgsql security definer set search_path = '' as $$
    begin
        insert into public.users (id, email, full_name, avatar_url) values (new.id, new.email,
            new.raw_user_meta_data ->> 'full_name', new.raw_user_meta_data ->> 'avatar_url');
        return new;
    end $$;
    create trigger on_auth_user_created after insert on auth.users
        for each row execute function public.handle_new_user();
"""

# The same with the columns that usersync mirrors by default, from the same sources.
ALL_COLUMNS = """
    create table public.users (id uuid primary key, email text, phone text, full_name text, avatar_url text,
        is_anonymous boolean, email_confirmed_at timestamptz, phone_confirmed_at timestamptz,
        banned_until timestamptz, created_at timestamptz, deleted_at timestamptz);
    create function public.handle_new_user() returns trigger
    language plpgsql security definer set search_path = '' as $$
    begin
        insert into public.users values (new.id, new.email, new.phone,
            coalesce(new.raw_user_meta_data ->> 'full_name', new.raw_user_meta_data ->> 'name'),
            coalesce(new.raw_user_meta_data ->> 'avatar_url', new.raw_user_meta_data ->> 'picture'),
            new.is_anonymous, new.email_confirmed_at, new.phone_confirmed_at, new.banned_until,
            new.created_at, new.deleted_at);
        return new;
    end $$;
    create trigger on_auth_user_created after insert on auth.users
        for each row execute function public.handle_new_user();
"""

# And in a block that catches errors, with a lock time-out: the minimum that keeps a sign-up from failing.
GUARDED = ALL_COLUMNS.replace(
    "set search_path = ''", "set search_path = '' set lock_timeout = '250ms'"
).replace("return new;", "return new; exception when others then raise warning 'not mirrored'; return new;")

# The cost of a trigger that does nothing, for the sign-up and for the sign-in.
NOTHING = """
    create table public.users (id uuid primary key);
    create function public.nothing() returns trigger
    language plpgsql security definer set search_path = '' as $$ begin return null; end $$;
    create trigger on_auth_user_created after insert on auth.users referencing new table as new_users
        for each statement execute function public.nothing();
    create trigger on_auth_user_updated after update on auth.users
        for each row execute function public.nothing();
"""

PEERS = {
    "hand-written trigger": HAND_WRITTEN,
    "all columns": ALL_COLUMNS,
    "guarded": GUARDED,
    "nothing": NOTHING,
}


#: Each round has this number of short turns.
SLICES = 10


class Side:
    """One database, and the sign-ups in it."""

    def __init__(self, database: SupabaseDatabase, *, has_users: bool) -> None:
        self.superuser = superuser_of(database)
        self._tables = "auth.users, public.users" if has_users else "auth.users"

    def sign_up(self, count: int) -> float:
        """Seconds each, for sign-ups in one transaction."""
        return timed(lambda: self.superuser.execute(SIGN_UPS % count)) / count

    def sign_in(self, count: int) -> float:
        """Seconds each, for sign-ins of existing users in one transaction."""
        return timed(lambda: self.superuser.execute(SIGN_INS % count)) / count

    def import_users(self, count: int) -> float:
        """Seconds each, for an import in one statement into empty tables."""
        self.empty()
        return timed(lambda: self.superuser.execute(IMPORT % count)) / count

    def sign_up_each(self, count: int) -> float:
        """Seconds each, for sign-ups that a client commits one by one."""
        return timed(lambda: [self.superuser.execute(SIGN_UP) for _ in range(count)]) / count

    def sign_in_each(self, count: int) -> float:
        """Seconds each, for sign-ins that a client commits one by one."""
        users = [user for (user,) in self.superuser.execute("select id from auth.users limit %s", [count])]
        return timed(lambda: [self.superuser.execute(SIGN_IN, [user]) for user in users]) / len(users)

    def transaction_ids(self, count: int) -> float:
        """The number of transaction ids that an import takes."""
        self.empty()
        before = self._next_id()
        self.superuser.execute(IMPORT % count)
        return self._next_id() - before

    def wal(self, count: int) -> dict[str, float]:
        """The bytes of write-ahead log of one sign-up and one sign-in."""
        self.empty()
        up = wal_bytes(self.superuser, lambda: self.superuser.execute(SIGN_UPS % count)) / count
        self.vacuum()
        into = wal_bytes(self.superuser, lambda: self.superuser.execute(SIGN_INS % count)) / count
        return {"sign-up": round(up), "sign-in": round(into)}

    def vacuum(self) -> None:
        self.superuser.execute("vacuum auth.users")
        self.superuser.execute("checkpoint")

    def empty(self) -> None:
        self.superuser.execute(f"truncate {self._tables} cascade")
        self.superuser.execute("checkpoint")

    def _next_id(self) -> float:
        row = self.superuser.execute(
            "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ).fetchone()
        return float(row[0]) if row else 0.0


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the table, and the distribution of the time."""
    sides, ours = make_sides(lab, stack)
    options = lab.options

    def turns(work: Callable[[Side, int], float], count: int, before: Callable[[Side], None]) -> Times:
        return take_turns(
            {name: (lambda s=side: work(s, max(1, count // SLICES))) for name, side in sides.items()},
            lab.rounds,
            slices=SLICES,
            before=lambda: [before(side) for side in sides.values()],
        )

    # A sign-in needs a user.
    ups = turns(Side.sign_up, options.statements, Side.empty)
    ins = turns(Side.sign_in, options.statements, Side.vacuum)
    up_commits = turns(Side.sign_up_each, options.commits, Side.empty)
    in_commits = turns(Side.sign_in_each, options.commits, Side.vacuum)
    imports = take_turns(
        {name: (lambda s=side: s.import_users(options.imported)) for name, side in sides.items()}, lab.rounds
    )
    logged = logged_sides(lab, stack)
    recorded = take_turns(
        {
            name: (lambda s=side: s.sign_up(max(1, options.statements // SLICES)))
            for name, side in logged.items()
        },
        lab.rounds,
        slices=SLICES,
        before=lambda: [side.empty() for side in logged.values()],
    )
    ids = [sides["usersync"].transaction_ids(options.imported) for _ in range(2)]
    rows = [
        slower("sign-up", "the hand-written trigger", ups, "usersync", "hand-written trigger", limit=1.3),
        slower("sign-up", "the hand-written trigger with all columns", ups, "usersync", "all columns"),
        over("sign-up, added", "no trigger", ups, "usersync", "none", limit=40),
        slower("sign-up and its commit", "no trigger", up_commits, "usersync", "none"),
        slower("sign-in and its commit", "no trigger", in_commits, "usersync", "none", limit=1.05),
        slower("sign-in and its commit", "a trigger that does nothing", in_commits, "usersync", "nothing"),
        over("sign-in, added", "no trigger", ins, "usersync", "none"),
        over("sign-in, added", "a trigger that does nothing", ins, "usersync", "nothing"),
        share(
            "import, share of what it adds",
            "the hand-written trigger",
            imports,
            "usersync",
            "hand-written trigger",
            base="none",
            limit=0.7,
        ),
        share(
            "import, share of what it adds",
            "the hand-written trigger with all columns",
            imports,
            "usersync",
            "all columns",
            base="none",
        ),
        slower("import", "no trigger", imports, "usersync", "none"),
        share(
            "sign-up, added by [audit] user_events",
            "what a bare INSERT into the log adds",
            recorded,
            "user events",
            "bare INSERT",
            base="without",
            limit=1.33,
        ),
        plain(f"import of {options.imported:,}, transaction ids", "", ids, "", limit=3),
        plain("token refresh and OAuth sign-in, rows of ours written", "", [rewritten(ours)], "", limit=0),
    ]
    profile = {
        "unit": "µs a statement, without commit",
        "sign-up": medians(ups),
        "sign-in": medians(ins),
        "import": medians(imports),
        "wal bytes": {name: side.wal(options.statements) for name, side in sides.items()},
    }
    return rows, profile


#: A trigger that fires after usersync's, and records the sign-up in the shortest way.
BARE_INSERT = """
    create function public.record_sign_up() returns trigger language plpgsql security definer as $$ begin
        insert into public.audit_logs (id, occurred_at, action, outcome, actor_id, actor_type, user_id,
            entity_type, entity_id, metadata, source)
        values (gen_random_uuid(), clock_timestamp(), 'user.created', 'succeeded', 'supabase_auth_admin',
            'system', new.id, 'user', new.id::text, '{"origin": "trigger", "actor_source": "role"}', 'sync');
        return null;
    end $$;
    create trigger record_sign_up after insert on auth.users
        for each row execute function public.record_sign_up();
"""


def logged_sides(lab: Lab, stack: ExitStack) -> dict[str, Side]:
    """usersync with an audit log: without events of users, with them, and with a bare INSERT instead."""
    sides = {}
    for name, events in (("without", False), ("user events", True), ("bare INSERT", False)):
        database = stack.enter_context(lab.database())
        install(database, parse_settings({"audit": {"enabled": True, "user_events": events}}))
        if name == "bare INSERT":
            with database.connect("postgres") as connection:
                connection.execute(BARE_INSERT)
        sides[name] = Side(database, has_users=True)
        stack.callback(sides[name].superuser.close)
    return sides


def make_sides(lab: Lab, stack: ExitStack) -> tuple[dict[str, Side], SupabaseDatabase]:
    """No trigger, hand-written triggers, and usersync: one database each."""
    sides = {"none": Side(stack.enter_context(lab.database()), has_users=False)}
    for name, script in PEERS.items():
        database = stack.enter_context(lab.database())
        with database.connect("postgres") as connection:
            connection.execute(script)
        sides[name] = Side(database, has_users=True)
    ours = stack.enter_context(lab.database())
    install(ours, Settings())
    sides["usersync"] = Side(ours, has_users=True)
    for side in sides.values():
        stack.callback(side.superuser.close)
    return sides, ours


def rewritten(database: SupabaseDatabase) -> float:
    """How many rows of the users table a token refresh and an OAuth sign-in write."""
    with database.connect("postgres") as owner, GoTrue(database.dsn("supabase_auth_admin")) as auth:
        user = auth.sign_up_oauth("google", email="ada@example.com")
        version = "select xmin::text, ctid::text from public.users where id = %s"
        before = owner.execute(version, [user]).fetchone()
        auth.refresh_token(user)
        auth.sign_in_oauth(user)
        return float(owner.execute(version, [user]).fetchone() != before)
