"""What usersync adds to a sign-up, a sign-in and an import, against a pasted trigger and against none.

Thousands of single-row statements in one transaction, so that nothing but the trigger is measured: a real
sign-up hashes a password and commits, beside which all of it is small. Run with: make bench
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from measuring import Result, arguments, paired, per_row, production_cluster, report, timed
from usersync.settings import Settings
from usersync.testing.install import install

if TYPE_CHECKING:
    import psycopg

    from usersync.testing import SupabaseCluster, SupabaseDatabase

COLUMNS = (
    """instance_id, id, aud, role, email, raw_app_meta_data, raw_user_meta_data, created_at, updated_at"""
)
VALUES = """
    '00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'authenticated', 'authenticated',
    'user' || n || '@example.com', '{"provider": "email", "providers": ["email"]}',
    '{"full_name": "Ada Lovelace", "avatar_url": "https://example.com/a.png"}', now(), now()
"""

SIGN_UPS = f"""do $$ begin for n in 1..%d loop
    insert into auth.users ({COLUMNS}) values ({VALUES});
end loop; end $$"""

SIGN_INS = """do $$ declare each uuid; begin for each in select id from auth.users limit %d loop
    update auth.users set last_sign_in_at = clock_timestamp(), updated_at = clock_timestamp() where id = each;
end loop; end $$"""

IMPORT = f"insert into auth.users ({COLUMNS}) select {VALUES} from generate_series(1, %d) as n"

# The recipe that everybody pastes, with as many columns as its usual versions have. It protects nothing.
RECIPE = """
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


class Side:
    """One database, and what each round took in it."""

    def __init__(self, database: SupabaseDatabase, has_users: bool) -> None:
        self._superuser: psycopg.Connection[Any] = database.connect("supabase_admin")
        self._superuser.execute("set statement_timeout = 0")
        self._tables = "auth.users, public.users" if has_users else "auth.users"
        self.seconds: dict[str, list[float]] = {"sign-up": [], "sign-in": [], "import": []}

    def round(self, statements: int, imported: int) -> None:
        """Sign up, sign in, and import, each from empty tables."""
        self._empty()
        self._time("sign-up", SIGN_UPS % statements)
        self._time("sign-in", SIGN_INS % statements)
        self._empty()
        self._time("import", IMPORT % imported)

    def _empty(self) -> None:
        self._superuser.execute(f"truncate {self._tables} cascade")
        self._superuser.execute("checkpoint")

    def _time(self, what: str, sql: str) -> None:
        self.seconds[what].append(timed(lambda: self._superuser.execute(sql)))


def main() -> None:
    """Run all comparisons and print the table."""
    options = arguments("What usersync adds to a sign-up.", statements=5_000, imported=100_000)
    with production_cluster(options.pg) as (server, cluster):
        sides = make_sides(cluster)
        for _ in range(options.rounds):
            for side in sides.values():
                side.round(options.statements, options.imported)
        report("sign_up", server, list(results(sides, options.statements, options.imported)))


def make_sides(cluster: SupabaseCluster) -> dict[str, Side]:
    """No trigger, the recipe, and usersync."""
    bare, pasted, ours = (cluster.create() for _ in range(3))
    with pasted.connect("postgres") as connection:
        connection.execute(RECIPE)
    install(ours, Settings())
    return {"none": Side(bare, False), "recipe": Side(pasted, True), "usersync": Side(ours, True)}


def results(sides: dict[str, Side], statements: int, imported: int) -> list[Result]:
    """The rows of the table."""
    rows = [
        ("sign-up", "recipe", "≤ 1.3", statements),
        ("sign-up", "none", "≤ 40 us over", statements),
        ("sign-in", "none", "≤ 1.05 with a commit", statements),
        ("import", "recipe", "≤ 0.7 of what it adds", imported),
        ("import", "none", "", imported),
    ]
    return [
        paired(
            what,
            against,
            aim,
            ours=sides["usersync"].seconds[what],
            theirs=sides[against].seconds[what],
            unit=per_row(count),
        )
        for what, against, aim, count in rows
    ]


if __name__ == "__main__":
    main()
