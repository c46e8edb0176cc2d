"""Subscriptions that publish to a NATS stream: the commands, the worker, and the stored data."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from working import wait_for

from event_receivers import BARE, EVENT, HOSTILE
from nats_credentials import with_credentials
from nats_server import as_json, ids_of, nats_server, run_with
from usersync.config.extras import EXTRAS, Requirement
from usersync.errors import SettingsError
from usersync.events.secret_box import KEY_VARIABLE
from usersync.events.streams.delivery import StreamDelivery
from usersync.events.streams.subject import subject_of
from usersync.schema.installation import plan_rollback
from usersync.transports.jetstream.address import StreamAddress
from usersync.transports.jetstream.connection import StreamError, connect
from usersync.transports.jetstream.stream import EVENTS, INGEST, INSTALLATION, Stream, risks
from usersync.transports.run import run as operation

pytestmark = pytest.mark.newest_server


NO_SEED = (
    "-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n"
    "-----BEGIN USER NKEY SEED-----\nSUABC\n------END USER NKEY SEED------\n"
)


@pytest.mark.slow
def test_add_publish_recreate_test_list_and_rollback_of_a_stream_subscription(working, command, nats, caplog):
    code, told = command("add", "siem", "--stream", nats.url, "--on", "a.*", "--format", "json")
    assert code == 0, told
    assert f"{nats.url}  stream usersync" in told
    assert "warning: It keeps one copy of each message" in " ".join(told.split())
    first = working.record(1, 2, action="a.b")
    working.record(1, action="c.d")
    with working.worker():
        working.wait_done("siem")
        found = nats.messages("usersync")
        assert ids_of(found) == first
        for (subject, headers, body), entity in zip(found, ("1", "2"), strict=True):
            assert (subject, headers["Content-Type"]) == ("usersync._.a.b", "application/json")
            assert as_json(body)["entity_id"] == entity

        # The stream is deleted by hand. The worker creates it again, and publishes later events.
        nats.delete_streams()
        second = working.record(*range(40))
        working.wait_done("siem")
        assert sorted(ids_of(nats.messages("usersync"))) == second

        # An event whose result was not stored is published again, and the stream stores it once.
        working.owner.execute(
            "update usersync.subscription_shards set position = 0, fence = fence + 1, worker = null"
        )
        third = working.record(7)
        wait_for(lambda: third[0] in ids_of(nats.messages("usersync")), "the event after it")
        working.wait_done("siem")
        assert sorted(set(ids_of(nats.messages("usersync"))) - set(first)) == sorted([*second, *third])
        assert len(nats.messages("usersync")) == len(first) + len(second) + len(third)
    assert not working.parked("siem")
    (installation,) = working.owner.execute("select installation::text from usersync.settings").fetchone()
    config = nats.ask("STREAM.INFO.usersync")["config"]
    assert config["metadata"][INSTALLATION] == installation
    assert (config["storage"], config["discard"], config["retention"]) == ("file", "new", "limits")
    assert "siem: the stream usersync can lose events. It keeps one copy" in caplog.text

    code, told = command("test", "siem")
    assert (code, "the stream stored the test event" in told) == (0, True)
    assert nats.messages("usersync")[-1][0] == "usersync._.usersync.test"
    code, told = command("list")
    assert f"siem sends json to {nats.url}" in " ".join(told.split())
    kept = [
        each.subject for each in operation(plan_rollback(working.project.settings), working.owner).changes
    ]
    assert "stream siem" in kept


@pytest.mark.parametrize(
    ("tenant", "action", "subject"),
    [
        (None, "order.paid", "usersync._.order.paid"),
        ("acme", "order", "usersync.acme.order"),
        ("_", "a..b", "usersync.%5F.a._.b"),
        ("a.b c*>%\n\u2028é", ".x ", "usersync.a%2Eb%20c%2A%3E%25%0A%E2%80%A8é._.x%20"),
    ],
)
def test_a_subject_has_the_tenant_and_the_action(tenant, action, subject):
    assert subject_of(replace(EVENT, tenant_id=tenant, action=action), "usersync") == subject


def test_a_subject_fits_into_a_line_of_the_nats_protocol():
    longest = max(
        # Characters of each length in UTF-8, with and without a meaning in subjects.
        len(subject_of(replace(EVENT, tenant_id=each * 200, action=each * 200), "x" * 64).encode())
        for each in ("*", "\x85", "\xad", "\u2028", "\ufdd0", "\U000e0001", "\U0010ffff")
    )
    # The line also contains the reply subject.
    assert longest < 4096 - 256


def test_every_event_is_published_whatever_it_contains(nats):
    async def publish():
        address = StreamAddress.parse(f"{nats.url}?stream=other")
        delivery = StreamDelivery("x", lambda: address, str(EVENT.id), format_name="cloudevents")
        try:
            return [
                await delivery.deliver(each, 1)
                for each in (EVENT, BARE, replace(HOSTILE, metadata=None), HOSTILE)
            ]
        finally:
            await delivery.close()

    *published, huge = asyncio.run(publish())
    assert {each.error for each in published} == {None}
    assert huge.error == "the message is larger than the server allows"
    found = nats.messages("other")
    # All events have the same id.
    assert [subject for subject, _, _ in found] == ["other.acme.user.updated"]
    assert as_json(found[0][2])["data"]["changes"] == {
        "email": ["ada@example.com", "ada@example.org"],
        "password": "[redacted]",
    }


@pytest.mark.slow
def test_the_login_of_a_stream_is_stored_encrypted_and_never_shown(
    working, command, tmp_path, monkeypatch, caplog
):
    options = 'authorization { timeout: 60, user: "us er", password: "p:w@rd" }'
    with nats_server(tmp_path / "nats", options) as server:
        url = server.url.replace("//", "//us%20er:p%3Aw%40rd@")
        arguments = ("add", "siem", "--stream", url, "--on", "a.b", "--json")
        monkeypatch.delenv(KEY_VARIABLE, raising=False)
        code, told = command(*arguments)
        assert (code, KEY_VARIABLE in told) == (2, True)
        monkeypatch.setenv(KEY_VARIABLE, Fernet.generate_key().decode())
        code, told = command(*arguments)
        assert code == 0, told
        assert json.loads(told)["url"] == server.url
        ids = working.record(1)
        with working.worker():
            working.wait_done("siem")
            with monkeypatch.context() as patched:
                patched.setenv(KEY_VARIABLE, Fernet.generate_key().decode())
                assert command("test", "siem")[0] != 0
        messages = run_with(url, lambda connection: connection.request("STREAM.INFO.usersync"))["state"][
            "messages"
        ]
        assert messages == len(ids)
        shown = told + "".join(
            command(*each)[1] for each in (("list", "--json"), ("show", "siem", "--json"), ("test", "siem"))
        )
        code, wrong = command("add", "two", "--stream", url.replace("p%3A", "x%3A"), "--on", "a.b")
        assert code == 2
        assert "Authorization Violation" in wrong
    stored = str(working.owner.execute("select to_jsonb(s) from usersync.subscriptions as s").fetchall())
    assert server.url in stored
    for secret in ("p:w@rd", "p%3Aw%40rd", "us er", "us%20er"):
        assert secret not in stored + shown + wrong + caplog.text + repr(working.status("siem"))
    assert "encrypted" not in shown


@pytest.mark.slow
def test_invalid_commands_create_no_subscription(working, command, nats):
    for target, problem in (
        (("--stream", "nats://"), "is not valid"),
        (("--stream", "http://127.0.0.1/"), "is not valid"),
        (("--stream", f"{nats.url}?stream=a.b"), "not the name of a stream"),
        (("--stream", f"{nats.url}?password=x"), "an unknown or empty option: 'password'"),
        (("--stream", "nats://127.0.0.1:1"), "cannot connect to nats://127.0.0.1:1"),
        (("--stream", nats.url.replace("nats:", "tls:")), "the server does not offer TLS"),
        (("--stream", nats.url, "--webhook", "https://x.example/"), "--webhook URL or --stream URL"),
        (("--stream", nats.url, "--allow-private"), "--allow-private is for webhooks"),
        ((), "--webhook URL or --stream URL"),
    ):
        code, told = command("add", "siem", *target, "--on", "a.b")
        assert (code, problem in " ".join(told.split())) == (2, True), told
    nats.ask("STREAM.CREATE.mine", {
        "name": "mine", "subjects": ["usersync.>"], "metadata": {INSTALLATION: str(EVENT.id)},
    })  # fmt: skip
    code, told = command("add", "siem", "--stream", nats.url, "--on", "a.b")
    assert (code, "the stream mine belongs to another installation" in " ".join(told.split())) == (
        2,
        True,
    )
    assert working.owner.execute("select count(*) from usersync.subscriptions").fetchone() == (0,)


def test_a_worker_without_nats_py_warns_and_publishes_to_no_stream(
    working, command, nats, monkeypatch, caplog
):
    assert command("add", "siem", "--stream", nats.url, "--on", "a.b")[0] == 0
    with monkeypatch.context() as patched:
        patched.setitem(EXTRAS, "nats", [Requirement("nats_is_not_installed", "nats-py[nkeys]")])
        with working.worker() as worker:
            assert "stream" not in worker._kinds
            wait_for(lambda: "streams are not published" in caplog.text, "the warning")
    (warning,) = [each.message for each in caplog.records if "streams are not published" in each.message]
    assert warning == (
        "streams are not published (siem): publishing to a stream needs packages that are not installed: "
        "nats-py[nkeys]"
    )


def test_stream_settings_that_can_lose_events_are_named():
    config = {
        "storage": "memory", "num_replicas": 1, "max_bytes": 10, "discard": "old", "retention": "interest",
        "max_age": 7 * 86_400 * 10**9, "duplicate_window": 10**9, "max_msg_size": 1000, "no_ack": True,
        "persist_mode": "async",
    }  # fmt: skip
    told = risks(Stream("s", "", config), INGEST)
    assert [each.partition(":")[0] for each in told] == [
        "It keeps one copy of each message",
        "It keeps messages in memory",
        "It acknowledges messages before they are on disk (persist_mode async)",
        "It acknowledges no message (no_ack)",
        (
            "When it is full (max_bytes), it deletes the oldest messages (discard old), read or unread. Use "
            "discard new"
        ),
        "It keeps messages only for existing consumers (retention interest)",
        "It deletes messages after 7 days (max_age), even if no worker has stored them.",
        "It rejects messages larger than 1,000 bytes (max_msg_size)",
        "Its duplicate window is 1 s",
    ]
    sound = {
        "storage": "file",
        "num_replicas": 3,
        "discard": "new",
        "duplicate_window": 120 * 10**9,
        "max_bytes": 10,
    }
    assert not risks(Stream("s", "", sound), EVENTS)


def reach(url):
    """Connect, and close the connection."""

    async def connected():
        await (await connect(StreamAddress.parse(url), "test")).close()

    asyncio.run(connected())


def test_a_credentials_file_logs_in_to_the_server(tmp_path):
    path = tmp_path / "nats.creds"
    with nats_server(tmp_path / "nats", with_credentials(path)) as server:
        reach(f"{server.url}?credentials={path}")
        with pytest.raises(StreamError, match="Authorization Violation"):
            reach(server.url)
        with pytest.raises(StreamError, match="No such file") as raised:
            reach(f"{server.url}?credentials={path}x")
    seed = path.read_text().splitlines()[5]
    assert seed not in str(raised.value)


def test_a_client_certificate_logs_in_to_the_server(tmp_path, certificate):
    files = f'cert_file: "{certificate}", key_file: "{certificate}", ca_file: "{certificate}"'
    with nats_server(tmp_path / "nats", f"tls {{ timeout: 60, {files}, verify: true }}") as server:
        url = f"tls://127.0.0.1:{server.port}?ca={certificate}"
        reach(f"{url}&certificate={certificate}&key={certificate}")
        with pytest.raises(StreamError, match="cannot connect"):
            reach(url)


@pytest.mark.slow
def test_the_servers_certificate_is_verified(tmp_path, certificate):
    options = f'tls {{ timeout: 60, cert_file: "{certificate}", key_file: "{certificate}" }}'

    with nats_server(tmp_path / "nats", options) as server:
        secure = f"tls://127.0.0.1:{server.port}"
        reach(f"{secure}?ca={certificate}")
        with pytest.raises(StreamError, match="certificate verify failed"):
            reach(secure)
        with pytest.raises(StreamError, match="Hostname mismatch"):
            reach(f"tls://localhost:{server.port}?ca={certificate}")


@pytest.mark.parametrize(
    "url", ["nats://secret-user:hidden-word@h?x=1", "nats://secret-user:hidden-word@h:0"]
)
def test_errors_do_not_show_the_login(url):
    with pytest.raises(SettingsError) as raised:
        StreamAddress.parse(url)
    address = StreamAddress.parse("nats://secret-user:hidden-word@h")
    for text in (str(raised.value), repr(address), str(address), str(raised.value.hint)):
        assert "secret-user" not in text
        assert "hidden-word" not in text


@pytest.mark.parametrize("content", ["", NO_SEED])
def test_the_error_for_invalid_credentials_shows_no_part_of_them(tmp_path, content):
    path = tmp_path / "nats.creds"
    path.write_text(content)
    user = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
    with (
        nats_server(
            tmp_path / "nats", f"authorization {{ timeout: 60, users: [{{ nkey: {user} }}] }}"
        ) as server,
        pytest.raises(StreamError, match="the file of credentials is not valid") as caught,
    ):
        asyncio.run(connect(StreamAddress.parse(f"{server.url}?credentials={path}"), "test"))
    assert "SUABC" not in str(caught.value)
