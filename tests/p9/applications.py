"""Hypothesis strategies for small applications with hand-written triggers, and for their later migrations."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

#: A column: its definition, the source that a trigger fills it from (None: the table's default), and whether
#: an update of the user can follow it.
COLUMNS = {
    "email": ("text", "new.email", True),
    "full_name": ("text", "new.raw_user_meta_data ->> 'full_name'", True),
    "name": ("text not null default ''", "coalesce(new.raw_user_meta_data ->> 'name', '')", True),
    "label": ("text", "coalesce(new.raw_user_meta_data ->> 'full_name', new.email, 'nobody')", True),
    "handle": ("text", "split_part(new.email, '@', 1)", False),
    "role": ("text not null default 'member'", "'client'", False),
    "plan": ("text default 'free'", "new.raw_app_meta_data ->> 'plan'", True),
    "bio": ("text default ''", None, False),
    "points": ("int not null default 0", None, False),
    "since": ("timestamptz", "new.created_at", False),
    "joined_at": ("timestamptz default now()", "now()", False),
    "code": ("text not null default md5(random()::text)", "md5(random()::text)", False),
    "anonymous": ("boolean", "new.is_anonymous", True),
}
#: Columns whose values are random.
RANDOM = ("code",)

#: The condition for the row, if it is not created for every user at the sign-up.
CONDITIONS = {
    "always": "true",
    "confirmed": "old.email_confirmed_at is null and new.email_confirmed_at is not null",
    "permanent": "not new.is_anonymous",
    "has an address": "new.email is not null",
    "not blocked": "new.email not like '%@blocked.example'",
}


@dataclass(frozen=True)
class Application:
    """The SQL of the application before usersync is installed."""

    sql: str
    table: str
    #: The body of the hand-written function.
    body: str
    #: The trigger that runs it.
    trigger: str
    #: The event on which the trigger fires.
    when: str
    columns: tuple[str, ...] = ()
    features: tuple[str, ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        return f"Application(\n{self.sql}\n)"


def function(name: str, body: str) -> str:
    """SQL that creates a hand-written trigger function."""
    return (
        f"create or replace function public.{name}() returns trigger language plpgsql security definer"
        f" set search_path = '' as $$\nbegin\n    {body}\n    return new;\nend $$;"
    )


def trigger(name: str, when: str, runs: str, *, on: str = "auth.users", each: str = "row") -> str:
    """SQL that creates a trigger."""
    return f"create trigger {name} {when} on {on} for each {each} execute function public.{runs}();"


@st.composite
def applications(draw: st.DrawFn) -> Application:
    """A users table, and the triggers that write to it."""
    chosen = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4, unique=True))
    cascades = draw(st.booleans())
    key = draw(st.sampled_from(("id", "id", "user_id")))
    reference = " references auth.users on delete cascade" if cascades else ""
    keys = (
        f"id uuid primary key{reference}"
        if key == "id"
        else f"id uuid primary key default gen_random_uuid(), user_id uuid not null unique{reference}"
    )
    definitions = "".join(f", {name} {COLUMNS[name][0]}" for name in chosen)
    parts = [f"create table public.people ({keys}{definitions});"]
    filled = [name for name in chosen if COLUMNS[name][1] and draw(st.integers(0, 3))]
    body, features = draw(_making(key, filled))
    name = draw(st.sampled_from(("on_auth_user_created", "make_person")))
    when = "after insert"
    if features == ["confirmed"]:
        when = "after update"
    elif "do update" in body and draw(st.booleans()):
        when = "after insert or update"
    parts += [function("make_person", body), trigger(name, when, "make_person")]
    for more in (
        _followed(key, filled, name),
        _removed(key, cascades=cascades),
        _second_table(key, name),
        _around(),
    ):
        extra, feature = draw(more)
        parts += extra
        features += feature
    return Application("\n".join(parts), "public.people", body, name, when, tuple(chosen), tuple(features))


@st.composite
def _making(draw: st.DrawFn, key: str, filled: list[str]) -> tuple[str, list[str]]:
    """The body of a function that creates a user's row."""
    names = ", ".join([key, *filled])
    values = ", ".join(["new.id", *(str(COLUMNS[name][1]) for name in filled)])
    sets = [f"{name} = excluded.{name}" for name in filled if COLUMNS[name][2]]
    conflicts = ["", f" on conflict ({key}) do nothing"]
    if sets:
        conflicts.append(f" on conflict ({key}) do update set {', '.join(sets)}")
    body = f"insert into public.people ({names}) values ({values}){draw(st.sampled_from(conflicts))};"
    condition = draw(st.sampled_from(["always", "always", *CONDITIONS]))
    if condition != "always":
        body = f"if {CONDITIONS[condition]} then {body} end if;"
    if draw(st.integers(0, 5)) == 0:
        body = f"begin {body} exception when others then raise warning 'no row: %', sqlerrm; end;"
    return body, [condition]


@st.composite
def _followed(draw: st.DrawFn, key: str, filled: list[str], maker: str) -> tuple[list[str], list[str]]:
    """A trigger that follows changes of the user, or none."""
    followed = [name for name in filled if COLUMNS[name][2] and draw(st.booleans())]
    if not followed:
        return [], []
    sets = ", ".join(f"{name} = {COLUMNS[name][1]}" for name in followed)
    event = draw(st.sampled_from(("after update", "after update of email, raw_user_meta_data")))
    name = draw(st.sampled_from(("on_auth_user_updated", "follow_person")))
    body = f"update public.people set {sets} where {key} = new.id;"
    return [function("follow_person", body), trigger(name, event, "follow_person")], ["followed"]


@st.composite
def _removed(draw: st.DrawFn, key: str, *, cascades: bool) -> tuple[list[str], list[str]]:
    """A trigger that removes the row of a deleted user, or none."""
    if cascades or draw(st.booleans()):
        return [], []
    body = f"delete from public.people where {key} = old.id;"
    return [function("remove_person", body), trigger("remove_person", "after delete", "remove_person")], [
        "removed"
    ]


@st.composite
def _second_table(draw: st.DrawFn, key: str, maker: str) -> tuple[list[str], list[str]]:
    """A second table, which another trigger fills after the first one; or none."""
    kind = draw(st.sampled_from(("none", "none", "needs the row", "reads the row", "of the users table")))
    if kind == "none":
        return [], []
    parts = [
        "create table public.wallets (id uuid primary key default gen_random_uuid(), owner uuid unique"
        + (f" references public.people ({key}) on delete cascade" if kind == "needs the row" else "")
        + ", balance int not null default 0);"
    ]
    if kind == "of the users table":
        body = f"insert into public.wallets (owner) values (new.{key});"
        parts += [
            function("open_wallet", body),
            trigger("open_wallet", "after insert", "open_wallet", on="public.people"),
        ]
        return parts, [kind]
    body = f"insert into public.wallets (owner) select {key} from public.people where {key} = new.id;"
    name = draw(st.sampled_from((f"{maker}_wallet", "zz_wallet")))
    parts += [function("open_wallet", body), trigger(name, "after insert", "open_wallet")]
    return parts, [kind]


@st.composite
def _around(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Triggers that many applications have: a time of the last change, a counter, metadata."""
    parts, features = [], []
    if draw(st.integers(0, 2)) == 0:
        parts += [
            "alter table public.people add column updated_at timestamptz not null default now();",
            function("touch", "new.updated_at = now();"),
            trigger("touch", "before update", "touch", on="public.people"),
        ]
        features.append("updated_at")
    if draw(st.integers(0, 3)) == 0:
        parts += [
            "create table public.counts (what text primary key, number int not null);",
            "insert into public.counts values ('people', 0);",
            function("count_people", "update public.counts set number = number + 1 where what = 'people';"),
            trigger("count_people", "after insert", "count_people", on="public.people"),
        ]
        features.append("counted")
    if draw(st.integers(0, 4)) == 0:
        body = "new.raw_user_meta_data = coalesce(new.raw_user_meta_data, '{}') || '{\"theme\": \"dark\"}';"
        parts += [function("add_theme", body), trigger("add_theme", "before insert", "add_theme")]
        features.append("metadata")
    return parts, features


@dataclass(frozen=True)
class Migration:
    """A trigger that the application adds after usersync was installed."""

    kind: str
    statements: tuple[str, ...]


def migrations(app: Application) -> st.SearchStrategy[Migration]:
    """The application's next migration."""
    again = trigger(app.trigger, app.when, "make_person")
    insert = "insert into public.people"
    noting = app.body.replace(insert, f"insert into public.notes (about) values (new.id); {insert}", 1)
    needy = f"insert into public.settings (person) select id from public.people where {_key(app)} = new.id;"
    return st.sampled_from(
        (
            Migration("trigger replaced", (again.replace("create ", "create or replace ", 1),)),
            Migration(
                "trigger dropped and created", (f"drop trigger if exists {app.trigger} on auth.users;", again)
            ),
            Migration(
                "function replaced",
                ("create table if not exists public.notes (about uuid);", function("make_person", noting)),
            ),
            Migration("function replaced by itself", (function("make_person", app.body),)),
            Migration(
                "trigger added that needs the row",
                (
                    "create table public.settings (person uuid, theme text default 'dark');",
                    function("make_settings", needy),
                    trigger(f"{app.trigger}_settings", "after insert", "make_settings"),
                ),
            ),
            Migration(
                "trigger added with a usual name",
                (
                    "create table public.changes (about uuid);",
                    function("note_change", "insert into public.changes values (new.id);"),
                    "drop trigger if exists on_auth_user_updated on auth.users;",
                    trigger("on_auth_user_updated", "after update", "note_change"),
                ),
            ),
            Migration(
                "table of a usual name",
                (
                    "create table if not exists public.audit_logs (at timestamptz default now(), what text);",
                    function("log_person", "insert into public.audit_logs (what) values ('a person');"),
                    trigger("log_person", "after insert", "log_person", on="public.people"),
                ),
            ),
            Migration("column added", ("alter table public.people add column city text default 'Brno';",)),
            Migration(
                "column added that is required",
                ("alter table public.people add column city text not null default 'Brno';",),
            ),
        )
    )


def _key(app: Application) -> str:
    return "user_id" if "user_id uuid" in app.sql else "id"
