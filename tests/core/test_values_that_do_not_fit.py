"""Values that a column cannot store, or stores differently: each is named once, and stops no other user."""

from __future__ import annotations

from usersync import UserSync


def test_a_value_of_another_type_does_not_stop_reconcile_or_status(installed, postgres):
    age = {"from": "user_metadata.age", "type": "integer"}
    auth, client = installed(columns={"email": "email", "age": age})
    lost, hostile = auth.sign_up_email(), auth.sign_up_email(data={"age": "5"})
    auth.update_user_metadata(hostile, age="abc")
    postgres.execute("delete from public.users where id = %s", [lost])
    client.reconcile()
    assert client.user_exists(lost)
    assert [(each.user_id, each.column) for each in client.failures()] == [(hostile, "age")]
    assert client.status().degraded == 1
    assert "abc" not in client.failures()[0].message


def test_a_value_that_the_column_truncates_is_named_and_not_written_again(installed, postgres):
    auth, client = installed(
        "create table public.users (id uuid primary key, full_name varchar(5))",
        columns={"full_name": "user_metadata.full_name"},
    )
    auth.sign_up_email(data={"full_name": "Ada     "})
    client.reconcile()
    written = postgres.execute("select xmin::text from public.users").fetchone()
    client.reconcile()
    assert postgres.execute("select xmin::text from public.users").fetchone() == written
    (failure,) = client.failures()
    assert failure.sqlstate == "US001"
    assert "Changed by: the type of the column" in failure.message


def test_the_date_style_of_the_session_does_not_change_the_comparison(installed, database, postgres):
    born = {"from": "user_metadata.birthday", "type": "date"}
    auth, client = installed(columns={"email": "email", "birthday": born})
    auth.sign_up_email(data={"birthday": "03/04/2000"})
    with UserSync(database.dsn() + "?options=-c%20datestyle%3DISO,DMY") as elsewhere:
        assert [each.reconcile().counts.stale for each in (elsewhere, client)] == [0, 0]


def test_anonymizing_empties_personal_columns_of_every_type(installed, postgres):
    columns = {"email": "email", "meta": "user_metadata", "deleted_at": "deleted_at"}
    auth, client = installed(columns=columns)
    user_id = auth.sign_up_email(data={"secret": "of mine"})
    assert client.sync_auth_user(user_id)
    auth.hard_delete(user_id)
    assert postgres.execute("select email, meta from public.users").fetchone() == (None, None)
    assert not client.failures()
