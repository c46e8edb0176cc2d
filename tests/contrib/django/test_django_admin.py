"""The audit log in Django's admin."""

from __future__ import annotations

import io
import re
import sys
from html import unescape
from types import ModuleType
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.module_loading import import_string
from django_site import PROJECT

pytestmark = pytest.mark.newest_server

APPS = [
    *PROJECT["INSTALLED_APPS"],
    "django.contrib.messages",
    "django.contrib.admin",
    "usersync.contrib.django.audit_admin",
]
TEMPLATE = {
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {
        "context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]
    },
}
LOG = "/staff/usersync_audit/auditevent/"


@pytest.fixture
def log(site, configure, monkeypatch):
    """The project with a site of its own for administrators; its audit log."""
    urls = ModuleType("admin_urls")
    monkeypatch.setitem(sys.modules, "admin_urls", urls)
    urls.urlpatterns = []
    messages = "django.contrib.messages.middleware.MessageMiddleware"
    configure(
        django={
            "INSTALLED_APPS": APPS,
            "MIDDLEWARE": [*PROJECT["MIDDLEWARE"], messages],
            "TEMPLATES": [TEMPLATE],
            "ROOT_URLCONF": "admin_urls",
        }
    )
    model = apps.get_model("usersync_audit.AuditEvent")
    admin.autodiscover()
    page = type(admin.site.get_model_admin(model))
    monkeypatch.setattr(page, "list_per_page", 2)
    pages = admin.AdminSite(name="staff")
    pages.register(model, page)
    urls.urlpatterns.append(path("staff/", pages.urls))
    call_command("migrate", verbosity=0, skip_checks=True)
    return import_string("usersync.contrib.django.audit")


@pytest.fixture
def client(log):
    """A client for each kind of user."""
    Permission, User = map(apps.get_model, ("auth.Permission", "auth.User"))  # noqa: N806 - classes
    staff = User.objects.create_user("staff", is_staff=True)
    reader = User.objects.create_user("reader", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_auditevent"))
    root = User.objects.create_superuser("root")
    clients = {"nobody": Client()}
    for user in (staff, reader, root):
        clients[user.username] = Client()
        clients[user.username].force_login(user)
    return clients.__getitem__


@pytest.fixture
def ids(log):
    script = {"why": "<script>alert(1)</script>"}
    made = [
        log.record("product.renamed", entity=("product", 42), changes={"name": ("<b>Bolt</b>", "Größe")}),
        log.record("order.paid", entity=("order", 7), outcome="denied", metadata=script),
        log.record("order.sent", entity=("order", 7)),
    ]
    assert log.flush()
    return made


def listed(answer):
    return re.findall(rf'href="{LOG}([0-9a-f-]+)/change/"', answer.content.decode())


def test_pages_filters_and_the_difference(client, ids):
    reader = client("reader")
    first = reader.get(LOG)
    assert (first.status_code, listed(first)) == (200, ids[:0:-1])
    (link,) = re.findall(r'href="(\?[^"]*after=[^"]+)"', first.content.decode())
    second = reader.get(LOG + unescape(link))
    assert listed(second) == ids[:1]
    assert "after=" not in second.content.decode()
    for query, found in (
        ("outcome=denied", [ids[1]]),
        ("action=order.*&entity_type=order&entity_id=7", ids[:0:-1]),
        ("text=größe", ids[:1]),
        ("since=2020-01-01&until=2020-01-02", []),
        ("outcome=&action=&_changelist_filters=x", ids[:0:-1]),
    ):
        assert listed(reader.get(f"{LOG}?{query}")) == found, query

    page = reader.get(f"{LOG}{ids[0]}/change/").content.decode()
    assert "<del>&quot;&lt;b&gt;Bolt&lt;/b&gt;&quot;</del></td><td><ins>&quot;Größe&quot;</ins>" in page
    assert f"{LOG}?entity_type=product&amp;entity_id=42" in page
    assert "<script>alert" not in reader.get(f"{LOG}{ids[1]}/change/").content.decode()
    assert "Audit events" in reader.get("/staff/").content.decode()


def test_invalid_filters_and_missing_events_are_answered_with_an_error(client, ids):
    for query in ("after=x", "action=a*b", "since=yesterday", "entity_id=7", "user_id=7"):
        answer = client("reader").get(f"{LOG}?{query}")
        assert (answer.status_code, listed(answer)) == (400, []), query
        assert "errornote" in answer.content.decode()
    for missing in (uuid4(), "42"):
        assert client("reader").get(f"{LOG}{missing}/change/").status_code == 404


def test_reading_requires_a_permission_and_writing_is_refused(client, ids):
    event = f"{LOG}{ids[0]}/"
    for user, status in (("nobody", 302), ("staff", 403), ("reader", 200), ("root", 200)):
        assert client(user).get(LOG).status_code == status
        assert client(user).get(f"{event}change/").status_code == status
    for user in ("reader", "root"):
        assert client(user).get(f"{LOG}add/").status_code == 403
        assert client(user).post(f"{event}delete/", {"post": "yes"}).status_code in {302, 403}
        assert client(user).post(f"{event}change/", {"action": "forged"}).status_code == 200
        assert (
            client(user).post(LOG, {"action": "delete_selected", "_selected_action": ids}).status_code == 200
        )
        assert client(user).get(f"{event}history/").status_code == 200
    assert len(listed(client("root").get(f"{LOG}?oldest_first=1"))) == 2


def test_no_page_counts_and_no_tool_reads_the_log(client, ids, site):
    with CaptureQueriesContext(connection) as caught:
        client("reader").get(LOG)
    assert not [each["sql"] for each in caught if "audit" in each["sql"] or "count(" in each["sql"].lower()]
    before = site.owner.execute("select count(*) from public.audit_logs").fetchone()
    call_command("dumpdata", "usersync_audit", stdout=(out := io.StringIO()))
    assert out.getvalue().strip() == "[]"
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
    assert site.owner.execute("select count(*) from public.audit_logs").fetchone() == before


def test_the_page_reports_an_unavailable_database(client, configure, ids):
    configure(DATABASE=None)
    answer = client("root").get(LOG)
    assert answer.status_code == 503
    assert "only records" in answer.content.decode()
