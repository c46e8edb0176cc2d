"""An entity, a user, an event, a filter and a subscription come out of an address as they went into it."""

from __future__ import annotations

import re
from html import unescape
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient

from usersync import console
from usersync.audit.event.entity import entity_text, parse_entity
from usersync.audit.models import EventFilter, EventPage
from usersync.console import addresses, customer_pages, pages
from usersync.console.filters import complete_entity_of, filter_of, given_filters

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
KEYS = ["k" * 43]

#: What PostgreSQL can store: no NUL, no surrogate.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
ODD = st.one_of(
    TEXT,
    st.text("/?#%&+;=.\\[]\"',: \t\r\n\u2028\u202eaé1", min_size=1, max_size=12),
    st.sampled_from(
        ["..", ".", "/", "//", "a/b", " ", "%2F", "%", "?", "#", "[1,2]", '["a"]', '"a"', "a b ", "\n"]
    ),
)


def asked_for(monkeypatch):
    """The entities whose history the pages read. No page reads from a database."""
    found = []

    def history(kind, key, **_):
        found.append((kind, key))

    def search(wanted, **_):
        found.append((wanted.entity_type, wanted.entity_id))

    async def read(*_):
        return EventPage((), None)

    monkeypatch.setattr(pages.reading, "history", history)
    monkeypatch.setattr(customer_pages.reading, "search", search)
    monkeypatch.setattr(pages.Pages, "_read", read)
    monkeypatch.setattr(customer_pages.Database, "read", read)
    return found


def written(root, path, **query):
    """What a page at this place writes into a link."""
    return addresses.address(Request({"type": "http", "root_path": root}), path, query)


@pytest.mark.parametrize("root", ["", "/internal", "/a b/ü%?#"])
def test_an_entity_keeps_its_type_and_id(monkeypatch, root):
    found = asked_for(monkeypatch)
    application = console.app(NOWHERE, authorize=lambda _: True)
    viewer = console.viewer(NOWHERE, keys=KEYS)
    served = Starlette(routes=[Mount(root, application)]) if root else application
    customers = Starlette(routes=[Mount(f"{root}/viewer", viewer)])
    link = console.viewer_link("", tenant="acme", keys=KEYS)

    @settings(max_examples=40)
    @given(kind=ODD, key=ODD)
    @example(kind="a/b", key="c")
    @example(kind="a", key="/b")
    @example(kind="a", key="..")
    def check(kind, key):
        text = entity_text(kind, key)
        assert parse_entity(text) == (kind, key)
        assert parse_entity(entity_text(kind)) == (kind, None)
        found.clear()
        page = browser.get(written(root, "/entity", entity=text))
        assert page.status_code == 200
        # Enter in the form that the page shows asks for the same, although a field drops line breaks.
        (field,) = re.findall(r'name="entity" value="([^"]*)"', page.text)
        browser.get(f"{written(root, '/entity')}", params={"entity": re.sub("[\r\n]", "", unescape(field))})
        customer.get(written(f"{root}/viewer", f"{link}entity", entity=text))
        assert found == [(kind, key)] * 3

    with TestClient(served) as browser, TestClient(customers) as customer:
        check()


@settings(max_examples=100)
@given(value=ODD, root=st.sampled_from(["", "/a b"]))
def test_a_filter_and_a_name_keep_their_value(value, root):
    at = written(root, "/events", actor_id=value, tenant_id=value, entity=entity_text(value), name=value)
    query = at.partition("?")[2].encode()
    request = Request({"type": "http", "query_string": query})
    wanted = filter_of(given_filters(request))
    assert (wanted.actor_id, wanted.tenant_id, wanted.entity_type) == (value, value, value)
    assert addresses.asked(request, "name") == value


def test_what_a_person_types_is_read_as_before():
    for text, pair in {
        " product/42 ": ("product", "42"),
        "product/a/b": ("product", "a/b"),
        "memberships/[1,2]": ("memberships", "[1, 2]"),
        '["a/b", "42"]': ("a/b", "42"),
        '["a"': None,
    }.items():
        query = written("", "/entity", entity="x").replace("=x", f"={text}").partition("?")[2]
        request = Request({"type": "http", "query_string": query.encode()})
        if pair:
            assert complete_entity_of(addresses.asked(request, "entity")) == pair
    for text in ("[]", '["a", "b", "c"]', "[1]", '["a"'):
        assert parse_entity(text) == (text, None)
    assert entity_text("product", "42") == "product/42"
    assert entity_text("product") == "product"
    assert EventFilter(entity_type="a/b").entity_type == "a/b"


def test_users_and_events_are_found_behind_a_mount():
    """Their ids are UUIDs. Anything else is an error page of the console, not of the router."""
    application = Starlette(routes=[Mount("/a b", console.app(NOWHERE, authorize=lambda _: True))])
    with TestClient(application) as browser:
        for path in ("/users/", "/events/"):
            assert browser.get(written("/a b", f"{path}{uuid4()}")).status_code == 503
            for odd in ("..%2F..", "%", "a?b", "%00", "a b"):
                answer = browser.get(written("/a b", f"{path}{odd}"))
                assert answer.status_code == (404 if "/" in odd or "%2F" in odd else 400)
                assert 'href="/a%20b/static/console.css"' in answer.text
