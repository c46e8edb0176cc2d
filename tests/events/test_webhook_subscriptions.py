"""Subscriptions of webhooks: the commands, the worker, and the contents of the database."""

from __future__ import annotations

import json
from contextlib import closing
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from psycopg.types.json import Jsonb
from standardwebhooks import Webhook
from working import wait_for

from event_receivers import BackgroundReceiver, answer
from usersync.config.extras import EXTRAS, Requirement
from usersync.events.secret_box import KEY_VARIABLE

pytestmark = pytest.mark.newest_server


@pytest.fixture
def command(command, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, Fernet.generate_key().decode())
    return command


def record_of(working, tenant, *entities):
    """Record an event of a tenant for each entity. Returns their ids."""
    ids = sorted(str(uuid4()) for _ in entities)
    events = [
        {
            "id": event_id,
            "action": "a.b",
            "occurred_at": "2026-03-01T12:00:00Z",
            "tenant_id": tenant,
            "entity_type": "thing",
            "entity_id": str(entity),
        }
        for event_id, entity in zip(ids, entities, strict=True)
    ]
    working.owner.execute("select public.record_audit_events(%s)", [Jsonb(events)])
    return ids


def secret_printed_in(output):
    return json.loads(output)["secret"]


def test_add_deliver_rotate_and_remove_a_webhook(working, command, caplog):
    with BackgroundReceiver([answer()]) as receiver:
        arguments = ("add", "crm", "--webhook", receiver.url, "--on", "a.*,c.d", "--tenant", "acme")
        code, output = command(*arguments)
        assert code == 2
        assert "--allow-private" in output
        code, output = command(*arguments, "--allow-private", "--json")
        secret = secret_printed_in(output)
        assert (code, secret[:6]) == (0, "whsec_")
        # This event is of another tenant.
        working.record(1)
        ids = record_of(working, "acme", 1, 1, 1)
        with working.worker():
            working.wait_done("crm")
            assert [each.headers["webhook-id"] for each in receiver.requests] == ids
            for each in receiver.requests:
                verified = Webhook(secret).verify(each.body, each.headers)
                assert (verified["type"], verified["data"]["tenant_id"]) == ("a.b", "acme")

            code, output = command("rotate-secret", "crm", "--json")
            new = secret_printed_in(output)
            assert new != secret
            # A running worker reads the new secret with its next lease.
            del receiver.requests[:]

            def signed_twice():
                record_of(working, "acme", 1)
                working.wait_done("crm")
                return len(receiver.requests[-1].headers["webhook-signature"].split()) == 2

            wait_for(signed_twice, "two signatures")
            for each in (secret, new):
                Webhook(each).verify(receiver.requests[-1].body, receiver.requests[-1].headers)

            receiver.answers = [answer(410, b"moved")]
            record_of(working, "acme", 1)
            wait_for(lambda: working.status("crm").state == "paused", "the pause")
        assert working.status("crm").reason == "410 Gone: the receiver wants no more events: moved"

        code, output = command("test", "crm")
        assert code == 1
        assert "410 Gone" in output
        receiver.answers = [answer()]
        assert command("test", "crm")[0] == 0
        sent = receiver.requests[-1]
        assert Webhook(new).verify(sent.body, sent.headers)["type"] == "usersync.test"

        stored = str(working.owner.execute("select to_jsonb(s) from usersync.subscriptions as s").fetchall())
        log = str(working.owner.execute("select to_jsonb(l) from public.audit_logs as l").fetchall())
        shown = "".join(
            command(*each)[1] for each in (("list", "--json"), ("show", "crm"), ("show", "crm", "--json"))
        )
        for each in (secret, new):
            assert each[6:] not in stored + log + shown + caplog.text
        assert "encrypted" not in shown + repr(working.status("crm"))
        assert receiver.url in stored


def test_invalid_commands_create_no_subscription(working, command, monkeypatch):
    url = "https://hooks.example/"
    for name, actions, options, problem in (
        ("UPPER", "a.b", (), "name"),
        ("crm", "a*b", (), "action"),
        ("crm", "a.b", ("--format", "xml"), "xml"),
        ("crm", "a.b", ("--webhook", "https://169.254.169.254/"), "metadata"),
    ):
        code, output = command("add", name, "--webhook", url, "--on", actions, *options)
        assert (code, problem in output) == (2, True), output
    monkeypatch.delenv(KEY_VARIABLE)
    code, output = command("add", "crm", "--webhook", url, "--on", "a.b")
    assert code == 2
    assert KEY_VARIABLE in output
    assert command("rotate-secret", "crm")[0] == 2
    assert command("test", "crm")[0] != 0
    assert working.owner.execute("select count(*) from usersync.subscriptions").fetchone() == (0,)


def test_set_url_keeps_the_position_and_the_secret_and_makes_this_database_the_home(working, command):
    with BackgroundReceiver([answer()]) as receiver:
        code, output = command("add", "crm", "--webhook", "https://hooks.example/", "--on", "a.b", "--json")
        assert code == 0
        secret = secret_printed_in(output)
        (event_id,) = working.record(1)
        working.owner.execute("update usersync.subscriptions set state = 'held', home_cluster = '1/2'")
        for name, url in (
            ("crm", "http://169.254.169.254/"),
            ("crm", receiver.url),
            ("other", "https://a.example/"),
        ):
            assert command("set-url", name, url)[0] == 2
        assert command("set-url", "crm", receiver.url, "--allow-private") == (0, "URL changed: crm\n")
        with working.worker():
            working.wait_done("crm")
        (request,) = receiver.requests
        assert request.headers["webhook-id"] == event_id
        Webhook(secret).verify(request.body, dict(request.headers))


def test_a_worker_with_a_wrong_encryption_key_sends_nothing(working, command, monkeypatch):
    with BackgroundReceiver([answer(429, retry_after="0"), answer()]) as receiver:
        assert command("add", "crm", "--webhook", receiver.url, "--on", "a.b", "--allow-private")[0] == 0
        key = Fernet.generate_key().decode()
        working.record(1)
        with monkeypatch.context() as patched:
            patched.setenv(KEY_VARIABLE, key)
            with working.worker():
                (parked,) = wait_for(lambda: working.parked("crm"), "a parked event")
        assert KEY_VARIABLE in parked.error
        assert key not in parked.error
        assert not receiver.requests
        working.retry("crm")
        with working.worker():
            working.wait_done("crm")
        assert len(receiver.requests) == 2


@pytest.mark.parametrize("problem", ["no key", "no package"])
def test_a_worker_that_cannot_sign_warns_and_delivers_no_webhook(
    working, command, monkeypatch, caplog, problem
):
    with BackgroundReceiver([answer()]) as receiver:
        assert command("add", "crm", "--webhook", receiver.url, "--on", "a.b", "--allow-private")[0] == 0
        with monkeypatch.context() as patched:
            if problem == "no key":
                patched.delenv(KEY_VARIABLE)
            else:
                patched.setitem(EXTRAS, "webhooks", [Requirement("aiohttp_is_not_installed", "aiohttp")])
            first = working.new(None)
            first.start()
            wait_for(lambda: "webhooks are not sent (crm): " in caplog.text, "the warning")
        with closing(first):
            # Also of one that is added later.
            assert command("add", "more", "--webhook", receiver.url, "--on", "x.y", "--allow-private")[0] == 0
            wait_for(lambda: "webhooks are not sent (more): " in caplog.text, "the second warning")
            with working.worker():
                working.record(*range(50))
                working.wait_done("crm")
                assert working.status("crm").workers == 1
        assert len(receiver.requests) == 50
    output = KEY_VARIABLE if problem == "no key" else "needs packages that are not installed: aiohttp"
    warnings = [each.message for each in caplog.records if "webhooks are not sent" in each.message]
    assert len(warnings) == 2
    assert all(output in each for each in warnings)
