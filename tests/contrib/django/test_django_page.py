"""The Django blocks of docs/frameworks.md, run in their order."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core import checks
from django.utils.module_loading import import_string

from usersync.contrib.django import AuditContextMiddleware
from usersync.contrib.django.operations import ApplyUsersync

PAGE = (Path(__file__).parents[3] / "docs/frameworks.md").read_text("utf-8")


@pytest.mark.newest_server
def test_the_blocks_for_django(site, configure):
    section = PAGE.split("\n## Django\n")[1].split("\n## ")[0]
    settings, migration, view = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names = {"product": SimpleNamespace(pk=42, save=lambda: None)}

    exec(settings, names)  # noqa: S102 - our own page
    assert import_string(names["MIDDLEWARE"][0]) is AuditContextMiddleware
    assert names["INSTALLED_APPS"][-1] == "usersync.contrib.django"
    configure(**names["USERSYNC"])
    assert checks.run_checks(tags=["usersync"]) == []

    exec(migration, names)  # noqa: S102
    (operation,) = names["Migration"]("0002_usersync", "shop").operations
    assert isinstance(operation, ApplyUsersync)

    exec(view, names)  # noqa: S102
    assert names["audit"].flush()
    events = site.owner.execute("select action from public.audit_logs order by action").fetchall()
    assert events == [("product.changed",), ("product.published",), ("product.seen",)]
