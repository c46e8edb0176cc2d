"""The differences after adoption, by flow, for each schema of ``tests/schemas``.

Two clones of each schema get the same requests of the auth server. A difference that ``apply`` did not
announce is a failure. Announced differences are in ``tests/golden/differences``, from which
``docs/differences.md`` is generated. After an intended change, run: make golden docs
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from installed import act, install

from real_schemas import PROJECTS, SCHEMAS
from usersync.config.settings import load_settings
from usersync.schema.trial.flows import FLOWS, Person, flows_before

GOLDEN = Path(__file__).parent.parent / "golden" / "differences"

#: Metadata keys that identity providers and forms send. The schemas read some of them.
KEYS = ("full_name", "name", "username", "user_name", "avatar_url", "first_name", "last_name")
#: Columns of the schemas with random values.
RANDOM = ("referral_code",)

#: Schemas that take about a second each. The others are slow.
QUICK = ("kinds_of_types", "soft_delete")

pytestmark = [pytest.mark.newest_server, pytest.mark.timeout(900)]


def people(side, twins):
    """Create users before usersync is installed."""
    for kind, arguments in (
        ("sign_up_email", ["ada@example.com"]),
        ("sign_up_oauth", ["google", "bea@example.com"]),
        ("sign_up_anonymous", []),
    ):
        side.request(act(kind, *arguments, user_id=twins.register(kind)))


def person(twins, name, number, email=None):
    """A user of a flow, the same in both databases."""
    data = {key: f"{key} of {name}" for key in KEYS}
    return Person(
        twins.register(name),
        name,
        email or f"user+{number}@example.com",
        f"1555{number:07}",
        data,
        {"plan": "pro"},
    )


def requests(twins, flow, number):
    """The requests of a flow, and those that come before it, with the user who makes each."""
    email = None
    if flow.address_of is not None:
        other = FLOWS[flow.address_of]
        first = person(twins, f"first of {flow.name}", number + 500)
        email = first.email
        for each in (*flows_before(other), other):
            yield each, first
    user = person(twins, flow.name, number, email)
    for each in (*flows_before(flow), flow):
        yield each, user


def differences_after(twins, flow, number):
    """The differences after a flow: in the outcome of its request, and in the rows."""
    *earlier, (last, user) = requests(twins, flow, number)
    for each, who in earlier:
        if not accepted_by_both(twins, each, who):
            return []  # the difference belongs to the flow of this request
    before = twins.differences()
    outcomes = twins.request(lambda auth: last.act(auth, user))
    if len(set(outcomes)) > 1:
        twins.excluded_users.add(str(user.id))
        return [f"auth.users: {outcomes[0]}, {outcomes[1]} with usersync"]
    return [line for line in twins.differences() if line not in before]


def accepted_by_both(twins, flow, user):
    """Make an earlier request in both databases. Returns whether both accept it."""
    outcomes = twins.request(lambda auth: flow.act(auth, user))
    if len(set(outcomes)) > 1:
        twins.excluded_users.add(str(user.id))
    return set(outcomes) == {"ok"}


def announced(done, flow, lines):
    """What apply announced about the flow. Fails if a difference was not announced."""
    tables = {line.partition(" ")[0].removesuffix(":") for line in lines}
    messages = {
        f"{each['subject']}: {each['message']}" if each["subject"] != "auth.users" else each["message"]: each
        for each in done.differences
        if flow.name in each["flows"] and each["subject"].startswith(tuple(tables))
    }
    found = {("**to accept** " if each["must_be_accepted"] else "") + text for text, each in messages.items()}
    left = {
        table for table in tables if not any(each["subject"].startswith(table) for each in messages.values())
    }
    table = str(load_settings(done.usersync.config).users_table)
    if table in left and not done.twins.plain_has_rows(table):
        left.remove(table)
        found.add(f"{table}: usersync creates, changes and removes the user's row, which no trigger did")
    assert not left, "\n".join([*lines, done.output])
    return sorted(found)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROJECTS]
)
def test_each_difference_was_announced_by_apply(cluster, tmp_path, name):
    project = PROJECTS[name]
    with ExitStack() as stack:
        done = install(
            cluster,
            stack,
            tmp_path / "usersync.toml",
            (SCHEMAS / f"{name}.sql").read_text() + project.prepared,
            table=project.table,
            people=people,
            random=RANDOM,
            decided=project.decided,
            options=("--accept-changes",),
        )
        assert done.apply.json["state"] == "applied", done.output
        found = {}
        for number, flow in enumerate(FLOWS.values()):
            lines = differences_after(done.twins, flow, number)
            found[flow.name] = announced(done, flow, lines) if lines else []
    same_as_golden(
        name, json.dumps({"flows": found, "rows of the first run": len(done.changed)}, indent=2) + "\n"
    )


def same_as_golden(name, text):
    path = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), "make golden docs"
    assert path.read_text(encoding="utf-8") == text, "If the change is intended, run: make golden docs"
