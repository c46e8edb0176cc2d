"""A % in names, defaults, constants and expressions is never read as a parameter."""

from __future__ import annotations

from usersync.config.settings import parse_settings
from usersync.core.why import explain_user, find_users
from usersync.testing.install import install
from usersync.transports.run import run

SETTINGS = {
    "users_table": '"100% sch%s"."%(id)s users"',
    "key": "%s",
    "users_where": {"kind%": "50%"},
    "columns": {
        "e%mail": "email",
        "%(name)s": {"from": "user_metadata.a%s", "default": "%s"},
        "rate%%": {"value": "5%"},
        "tag%": {"expression": "'%s' || left(id::text, 4)", "owner": "auth"},
    },
}


def test_percent_signs_in_names_and_values_are_kept(database, postgres, auth):
    settings = parse_settings(SETTINGS)
    install(database, settings)
    user = auth.sign_up_email("ada@example.com")
    stored = postgres.execute('select * from "100% sch%s"."%(id)s users"').fetchone()
    assert stored == (user, "50%", "ada@example.com", "%s", "5%", f"%s{str(user)[:4]}")
    assert run(find_users(settings, "ada@example.com"), postgres) == [user]
    report = run(explain_user(settings, user), postgres)
    assert [column.name for column in report.columns] == list(SETTINGS["columns"])
    assert report.in_step
