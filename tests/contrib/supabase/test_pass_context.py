"""supabase-py with a service key, over a real PostgREST: tracked rows have the actor of the audit context."""

from __future__ import annotations

import asyncio
import json
import threading
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from supabase import ClientOptions, acreate_client, create_client

from audit_settings import with_audit_log
from postgrest_server import SERVICE_KEY, mint
from usersync.audit.event.context import begun, entered
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.contrib.supabase import HEADER, pass_context
from usersync.errors import ArgumentTypeError, SettingsError
from usersync.transports.run import run

VERSION = tuple(map(int, version("supabase").split(".")[:2]))

pytestmark = [
    pytest.mark.newest_server,
    pytest.mark.skipif(VERSION < (2, 34), reason="supabase-py 2.34 needs a newer httpx than the lowest"),
    # Of supabase-py's own calls.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ADA = {"actor_id": "ada", "request_id": "r-1", "tenant_id": "acme"}


@pytest.fixture
def owner(backend):
    """A tracked table that every role of the Data API may write to."""
    backend.owner.execute(
        "create table public.notes (id int generated always as identity primary key, text text)"
    )
    backend.owner.execute("grant select, insert on public.notes to anon, authenticated, service_role")
    backend.owner.execute(
        "create function public.note(text text) returns void language sql security definer as "
        "$$ insert into public.notes (text) values (note.text) $$"
    )
    backend.owner.execute("grant execute on function public.note(text) to anon, service_role")
    run(
        tracking.track(with_audit_log(), "public.notes", TrackOptions(), Redactor().is_secret),
        backend.owner,
    )
    return backend.owner


@pytest.fixture
def gateway(owner, backend, serve):
    return serve(backend.database)


@pytest.fixture
def connect(gateway):
    """Create a client; it is closed at the end of the test."""
    clients = []

    def create(key, options=None):
        clients.append(create_client(gateway.url, key, options))
        return clients[-1]

    yield create
    for client in clients:
        client.postgrest.aclose()


def recorded(owner):
    """The actors of the inserted rows."""
    return owner.execute(
        "select changes -> 'text' ->> 1, actor_id, actor_type, metadata ->> 'actor_source', request_id,"
        " tenant_id from public.audit_logs where action = 'notes.inserted' order by id"
    ).fetchall()


def add(client, text):
    return client.table("notes").insert({"text": text})


SERVICE = ("service_role", "service", "jwt", None, None)


def test_a_blocking_client_passes_the_actor(owner, connect, backend):
    user_id = str(backend.sign_up())
    client = connect(SERVICE_KEY)
    add(client, "before").execute()
    with entered(ADA):
        add(client, "not yet").execute()
        pass_context(client)
        pass_context(client)
        add(client, "one").execute()
        client.schema("public").from_("notes").insert({"text": "by schema"}).execute()
        with begun({"actor_id": lambda: user_id, "actor_type": "user"}):
            add(client, "two").execute()
        with begun({"actor_type": "anonymous", "request_id": 'r"\n\x00ü' * 100}):
            add(client, "three").execute()
    # The actor does not survive into the next request, on the same connection.
    add(client, "after").execute()
    rows = recorded(owner)
    assert rows[:4] == [
        ("before", *SERVICE),
        ("not yet", *SERVICE),
        ("one", "ada", "user", "header", "r-1", "acme"),
        ("by schema", "ada", "user", "header", "r-1", "acme"),
    ]
    assert rows[4] == ("two", user_id, "user", "header", None, None)
    assert rows[5][:4] == ("three", None, "anonymous", "header")
    assert rows[5][4].startswith('r"')
    assert rows[6] == ("after", *SERVICE)
    assert owner.execute(
        "select count(*) from audit_logs where user_id::text = %s", [user_id]
    ).fetchone() == (1,)


@pytest.mark.slow
def test_an_asyncio_client_keeps_tasks_apart(owner, gateway):
    async def main():
        client = await acreate_client(gateway.url, SERVICE_KEY)
        pass_context(client)

        async def work(number):
            with begun({"actor_id": f"actor{number}"} if number % 3 else {}):
                await add(client, f"{number}").execute()

        await asyncio.gather(*map(work, range(12)))
        await client.postgrest.aclose()

    asyncio.run(main())
    found = {text: actor for text, actor, *_ in recorded(owner)}
    assert found == {f"{n}": f"actor{n}" if n % 3 else "service_role" for n in range(12)}


def test_threads_of_one_client_keep_their_contexts(owner, connect):
    client = connect(SERVICE_KEY)
    pass_context(client)

    def work(number):
        with begun({"actor_id": f"actor{number}"}):
            add(client, f"{number}").execute()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {text: actor for text, actor, *_ in recorded(owner)} == {f"{n}": f"actor{n}" for n in range(6)}


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_the_header_of_other_roles_is_ignored(owner, gateway, connect, role):
    sub = {"sub": "11111111-1111-4111-8111-111111111111"} if role == "authenticated" else {}
    client = connect(mint(role=role, **sub))
    pass_context(client)
    with entered(ADA):
        client.postgrest.from_("notes").insert({"text": "forged"}, returning="minimal").execute()
    assert HEADER in gateway.seen[-1][1]
    ((_, actor, _, source, request_id, tenant),) = recorded(owner)
    assert (actor, source, request_id, tenant) == (sub.get("sub", "anon"), "jwt", None, None)


def test_a_function_with_its_owners_rights_believes_no_more(owner, connect):
    for key in (mint(role="anon"), SERVICE_KEY):
        client = connect(key)
        pass_context(client)
        with entered(ADA):
            client.rpc("note", {"text": "x"}).execute()
    assert [actor for _, actor, *_ in recorded(owner)] == ["anon", "ada"]


def test_a_session_that_is_replaced_has_the_hook(owner, connect):
    client = connect(SERVICE_KEY)
    pass_context(client)
    first = client.postgrest
    first.aclose()
    client.auth._notify_all_subscribers("SIGNED_OUT", None)
    assert client.postgrest is not first
    with entered(ADA):
        add(client, "x").execute()
    assert recorded(owner) == [("x", "ada", "user", "header", "r-1", "acme")]


def test_the_header_is_sent_to_the_data_api_only():
    import httpx  # noqa: PLC0415 - of supabase-py

    seen = []

    def answer(request):
        seen.append((str(request.url), request.headers.get(HEADER)))
        if request.url.host == "a.example" and request.url.path.endswith("moved"):
            return httpx.Response(307, headers={"Location": "http://b.example/rest/v1/notes"})
        return httpx.Response(200, json=[])

    with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as session:
        for host in ("a.example", "c.example"):
            pass_context(create_client(f"http://{host}", SERVICE_KEY, ClientOptions(httpx_client=session)))
        with entered({"actor_id": "ada"}):
            for url in ("http://a.example/rest/v1/notes", "http://c.example/rest/v1/notes"):
                session.get(url)
            session.get("http://a.example/auth/v1/user")
            session.get("http://a.example/rest/v1/moved", headers={HEADER: "forged"})
        session.get("http://a.example/rest/v1/notes", headers={HEADER: "forged"})
    sent = '{"actor_id":"ada"}'
    assert [value for _, value in seen] == [sent, sent, None, sent, None, None]


MALFORMED = [
    "no json",
    "[]",
    "null",
    '"ada"',
    "{}",
    '{"actor_id": null}',
    '{"actor_id": ""}',
    '{"actor_id": "\\u0000"}',
    '{"actor_id": "\\ud800"}',
    "{" * 5000,
]


def add_with(gateway, sent):
    headers = {"apikey": SERVICE_KEY, "authorization": f"Bearer {SERVICE_KEY}", HEADER: sent}
    headers["content-type"] = "application/json"
    status, _, body = gateway.answer("POST", "/rest/v1/notes", headers, b'{"text": "x"}')
    assert status == 201, body


def test_a_malformed_header_records_the_role(owner, gateway):
    for sent in MALFORMED:
        add_with(gateway, sent)
    assert recorded(owner) == [("x", *SERVICE)] * len(MALFORMED)
    assert owner.execute("select count(*) from usersync.audit_rejects").fetchone() == (0,)


def test_values_of_any_type_and_size_are_recorded(owner, gateway):
    long = {"actor_id": "ü" * 5000, "request_id": ["x"] * 100, "tenant_id": {"a": 1}, "actor_type": "root"}
    for sent in (long, {"actor_id": 5, "tenant_id": 7}):
        add_with(gateway, json.dumps(sent))
    (first, second) = recorded(owner)
    assert first == ("x", "ü" * 200, "user", "header", str(["x"] * 100).replace("'", '"')[:200], '{"a": 1}')
    assert second == ("x", "5", "user", "header", None, "7")


def test_a_version_that_loses_the_context_is_refused(monkeypatch):
    client = create_client("http://a.example", SERVICE_KEY)
    monkeypatch.setattr(client.postgrest, "schema", lambda _: SimpleNamespace(session=None))
    with pytest.raises(SettingsError, match="another session") as caught:
        pass_context(client)
    assert "2.34" in caught.value.hint


@pytest.mark.parametrize("client", [None, "http://localhost", object()])
def test_only_a_client_of_supabase_is_accepted(client):
    with pytest.raises(ArgumentTypeError, match="expected a client of supabase-py"):
        pass_context(client)
