"""Deferred constraints are checked before the auth server's COMMIT, so that they cannot fail it."""

from __future__ import annotations

DEFERRED_ELSEWHERE = """
    create table public.plans (id int primary key);
    create table public.profiles (
        user_id uuid, plan_id int default 1 references public.plans deferrable initially deferred
    );
    create function public.make_profile() returns trigger language plpgsql as $$
    begin insert into public.profiles (user_id) values (new.id); return new; end $$;
    create trigger make_profile after insert on public.users
        for each row execute function public.make_profile();
"""


def test_a_trigger_that_violates_a_deferred_constraint_fails_no_sign_up(installed, postgres):
    auth, client = installed()
    postgres.execute(DEFERRED_ELSEWHERE)
    user_id = auth.sign_up_email()
    assert [(each.user_id, each.sqlstate) for each in client.failures()] == [(user_id, "23503")]


def test_a_cascade_that_violates_a_deferred_constraint_fails_no_deletion(installed, postgres):
    auth, client = installed(on_delete="delete")
    postgres.execute("""
        create table public.orders (
            id int primary key, user_id uuid references public.users on delete cascade
        );
        create table public.items (
            id int, order_id int references public.orders deferrable initially deferred
        )
    """)
    user_id = auth.sign_up_email()
    postgres.execute("insert into public.orders values (1, %s)", [user_id])
    postgres.execute("insert into public.items values (1, 1)")
    auth.hard_delete(user_id)
    assert [each.sqlstate for each in client.failures()] == ["23503"]


def test_a_deferred_constraint_on_a_partition_fails_no_sign_up(installed):
    auth, client = installed(
        """
        create table public.users (id uuid primary key, email text) partition by hash (id);
        create table public.users_0 partition of public.users for values with (modulus 1, remainder 0);
        alter table public.users_0 add unique (email) deferrable initially deferred
        """,
        columns={"email": "email"},
    )
    auth.sign_up_email("ada@example.com")
    twin = auth.sign_up_sso("ada@example.com")
    assert [(each.user_id, each.outcome) for each in client.failures()] == [(twin, "degraded")]


def test_pending_checks_of_the_application_wait_for_its_commit(installed, database, postgres):
    auth, _ = installed()
    postgres.execute(
        "create table public.orders (user_id uuid references public.users deferrable initially deferred)"
    )
    ada, grace = auth.sign_up_email(), auth.sign_up_email()
    postgres.execute("delete from public.users")
    with database.connect("postgres", autocommit=False) as work:
        work.execute("insert into public.orders values (%s), (%s)", [ada, grace])
        ensured = "select public.ensure_user_exists(%s), public.ensure_user_exists(%s)"
        assert work.execute(ensured, [ada, grace]).fetchone() == (True, True)
        work.commit()
