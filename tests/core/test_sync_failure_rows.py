"""What a row of usersync.sync_failures contains, and when it is deleted."""

from __future__ import annotations

import uuid

import pytest


@pytest.mark.parametrize("address", ["o'brien@example.com", '"john doe"@example.com', "a=b@example.com"])
def test_no_part_of_an_address_is_stored_in_the_failures_table(installed, postgres, address):
    auth, client = installed()
    postgres.execute("""
        create function public.refuse() returns trigger language plpgsql as $$
        begin raise 'not %', new.email using column = new.email, constraint = new.email; end $$;
        create trigger refuse before insert on public.users for each row execute function public.refuse()
    """)
    auth.sign_up_email(address)
    (failure,) = client.failures()
    kept = f"{failure.message} {failure.column} {failure.constraint}"
    assert not any(part in kept for part in ("brien", "john", "doe", "a=", "example"))


def test_reconcile_deletes_a_sync_failure_whose_user_does_not_exist(installed, postgres):
    auth, client = installed()
    third = sorted(auth.sign_up_email() for _ in range(6))[2]
    postgres.execute(
        "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
        "values (%s, 'failed', 'x', 'y')",
        [uuid.UUID(int=third.int + 1)],
    )
    client.reconcile(page_size=3)
    assert not client.failures()


@pytest.mark.newest_server
@pytest.mark.parametrize("on_delete", ["anonymize", "soft", "keep", "delete"])
@pytest.mark.parametrize("deletion", ["hard_delete", "soft_delete"])
def test_deleting_a_user_without_a_row_deletes_the_sync_failure(installed, postgres, on_delete, deletion):
    auth, client = installed(on_delete=on_delete)
    postgres.execute("alter table public.users add constraint nobody check (false) not valid")
    user = auth.sign_up_email()
    assert [each.user_id for each in client.failures()] == [user]
    getattr(auth, deletion)(user)
    assert not client.failures()
