"""P9: installing usersync changes nothing that worked, also after later migrations of the application.

The test draws small applications with hand-written triggers, each in two clones. ``init`` and
``apply --adopt`` run in one clone, as a new user would run them. Then both get the same requests of the auth
server and the same migrations. After each step all rows are equal, except for differences that ``apply`` or
``doctor`` reported.

Each run draws the same applications. ``--hypothesis-seed=N`` draws others, ``USERSYNC_P9_EXAMPLES=200`` more.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import timedelta
from itertools import count

import pytest
from applications import RANDOM, applications, migrations
from hypothesis import Phase, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from installed import act, install

EXAMPLES = int(os.environ.get("USERSYNC_P9_EXAMPLES", "4"))

METADATA = (
    {"full_name": "Ada Lovelace", "name": "Ada"},
    {"full_name": "Ada Lovelace"},
    {},
    {"full_name": None, "name": 7},
)
ADDRESSES = ("{}@example.com", "{}@example.org", "{}@blocked.example")


def people(side, twins):
    """The users before usersync is installed. The application may refuse some."""
    auth, register = side.request, twins.register
    auth(act("sign_up_email", "ada@example.com", data=METADATA[0], user_id=register("ada")))
    auth(act("sign_up_email", "ben@example.com", user_id=register("ben"), autoconfirm=False))
    auth(act("sign_up_oauth", "google", "cleo@example.com", name="Cleo", user_id=register("cleo")))
    auth(act("change_email", register("cleo"), "cleo@example.org"))
    auth(act("sign_up_anonymous", user_id=register("dan")))
    auth(act("admin_create", "eva@example.com", app_metadata={"plan": "pro"}, user_id=register("eva")))
    auth(act("sign_up_email", "finn@example.com", data=METADATA[0], user_id=register("finn")))
    auth(act("soft_delete", register("finn")))
    auth(act("sign_up_email", "gus@example.com", user_id=register("gus")))
    auth(act("hard_delete", register("gus")))


class Application(RuleBasedStateMachine):
    """One application, before and after usersync is installed."""

    cluster = None
    directory = None

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()
        self.numbers = count(1)
        self.app = self.done = None
        self.kinds = set()
        #: The effects of the differences that apply announced.
        self.effects = set()

    def teardown(self):
        self.stack.close()

    @initialize(app=applications())
    def install_usersync(self, app):
        self.app = app
        config = self.directory / "usersync.toml"
        config.unlink(missing_ok=True)
        options = ("--accept-changes",)
        self.done = install(
            self.cluster,
            self.stack,
            config,
            app.sql,
            table=app.table,
            people=people,
            random=RANDOM,
            options=options,
        )
        note(self.done.output)
        assert self.done.apply.code in {0, 1}, self.done.output
        assert self.done.apply.json["state"] in {"applied", "not decided"}, self.done.output
        self.done.leave_out_first_run()
        self.record_announcements(self.done.apply)
        self.check_equal()
        if self.done.apply.json["state"] == "applied":
            self.done.assert_init_proposes_it()

    def record_announcements(self, apply):
        """Record the differences that apply announced."""
        trial = apply.json.get("trial") or {}
        for each in trial.get("differences", ()):
            assert each["effect"] != "refused", apply
            self.effects.add(each["effect"])
            if each["effect"] == "different":
                self.twins.announced.add(each["subject"])
        if "who does not meet its condition" in apply.out:
            self.effects.add("row for each user")
            self.twins.announced.add("public.counts")

    @property
    def twins(self):
        return self.done.twins

    def check_equal(self):
        """Fails unless all rows are equal or the difference was announced."""
        found = self.twins.differences()
        assert not found, "\n".join(found)

    def request(self, method, user, /, *arguments, **options):
        plain, synced = self.twins.request(act(method, *arguments, **options))
        note(f"{method} {arguments} {options}: {plain}")
        if plain != "ok" and synced == "ok" and self.effects & {"accepted", "admitted"}:
            self.twins.excluded_users.add(str(user))
        else:
            assert plain == synced
        self.check_equal()

    def living(self):
        query = "select id from auth.users where deleted_at is null order by id"
        return [user for (user,) in self.twins.plain.admin.execute(query)]

    @rule(
        kind=st.sampled_from(("email", "unconfirmed", "oauth", "anonymous", "invite", "admin", "phone")),
        data=st.sampled_from(METADATA),
        address=st.sampled_from(ADDRESSES),
        choice=st.data(),
    )
    def sign_up(self, kind, data, address, choice):
        self.migrate(choice)
        number = next(self.numbers)
        user = self.twins.register(f"user {number}")
        email = address.format(f"user-{number}")
        calls = {
            "email": ("sign_up_email", [email], {"data": data}),
            "unconfirmed": ("sign_up_email", [email], {"data": data, "autoconfirm": False}),
            "oauth": ("sign_up_oauth", ["google", email], {"name": None, "claims": data}),
            "anonymous": ("sign_up_anonymous", [], {"data": data}),
            "invite": ("invite", [email], {"data": data}),
            "admin": ("admin_create", [email], {"user_metadata": data, "app_metadata": {"plan": "pro"}}),
            "phone": ("sign_up_phone", [f"1555{number:07}"], {"data": data}),
        }
        name, arguments, options = calls[kind]
        if "blocked" in address and "row for each user" in self.effects:
            self.twins.excluded_users.add(str(user))
        self.request(name, user, *arguments, **options, user_id=user)

    @precondition(lambda self: self.living())
    @rule(
        who=st.integers(0, 1000),
        kind=st.sampled_from(
            ("confirm", "email", "metadata", "app metadata", "sign in", "ban", "permanent", "soft", "hard")
        ),
        choice=st.data(),
    )
    def change(self, who, kind, choice):
        self.migrate(choice)
        users, number = self.living(), next(self.numbers)
        user = users[who % len(users)]
        calls = {
            "confirm": ("confirm", [], {}),
            "email": ("change_email", [f"changed-{number}@example.com"], {}),
            "metadata": ("update_user_metadata", [], {"full_name": f"Name {number}", "name": f"N{number}"}),
            "app metadata": ("update_app_metadata", [], {"plan": f"plan {number}"}),
            "sign in": ("refresh_token", [], {}),
            "ban": ("ban", [timedelta(days=1)], {}),
            "permanent": ("make_permanent", [f"permanent-{number}@example.com"], {}),
            "soft": ("soft_delete", [], {}),
            "hard": ("hard_delete", [], {}),
        }
        name, arguments, options = calls[kind]
        self.request(name, user, user, *arguments, **options)

    @rule()
    def sync(self):
        before = self.twins.synced.rows()
        self.done.usersync("sync", "--json")
        changed = self.twins.compared(before, self.twins.synced.rows())
        assert not changed, "\n".join(changed)

    def migrate(self, data):
        """Run the application's next migration, one time in three, and at most two of them."""
        if len(self.kinds) > 1 or data.draw(st.integers(0, 2), "migrates") > 0:
            return
        migration = data.draw(migrations(self.app))
        if migration.kind in self.kinds:
            return
        self.kinds.add(migration.kind)
        for statement in migration.statements:
            plain, synced = self.twins.execute(statement)
            assert plain == synced, statement
        if self.app.table in self.twins.announced:
            self.twins.announced.add("public.audit_logs")  # a migration's trigger on the table writes there
        self.follow_advice()
        self.check_equal()

    def follow_advice(self):
        """Apply the fixes of doctor for the application's triggers."""
        found = self.done.usersync("doctor", "--json", "--only", "D004,D005")
        note(str(found))
        findings = [
            each for check in found.json["checks"] for each in check["findings"] if each["level"] != "ok"
        ]
        if not findings:
            return
        if any(each["subject"].startswith("function ") for each in findings):
            done = self.done.usersync("rollback", "--yes")
            assert done.code == 0, done
        done = self.done.usersync("apply", "--adopt", "--yes", "--accept-changes", "--json")
        note(str(done))
        assert done.json["state"] in {"applied", "up to date"}, done
        self.record_announcements(done)


@pytest.mark.newest_server
@pytest.mark.slow
@pytest.mark.starts_first
@pytest.mark.timeout(3600)
def test_a_random_application_works_as_before(cluster, tmp_path, pytestconfig):
    machine = type("Application", (Application,), {"cluster": cluster, "directory": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            stateful_step_count=12,
            print_blob=True,
            phases=(Phase.generate,) + ((Phase.shrink,) if os.environ.get("USERSYNC_P9_SHRINK") else ()),
            derandomize=pytestconfig.getoption("--hypothesis-seed") is None,
            database=None,
        ),
    )
