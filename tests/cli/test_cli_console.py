"""``usersync console``: the link works once, and Ctrl-C ends the server."""

from __future__ import annotations

import json
import signal
import urllib.request

import pytest

pytestmark = [pytest.mark.newest_server, pytest.mark.usefixtures("directory")]


def test_the_command_prints_a_link_and_serves_until_ctrl_c(database, spawn):
    process = spawn("console", "--json", "--dsn", database.dsn())
    url = json.loads(process.stdout.readline())["url"]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    # usersync is not installed in this database.
    with pytest.raises(urllib.error.HTTPError) as answer:
        opener.open(url)
    assert answer.value.code == 503
    assert "usersync explain US301" in answer.value.read().decode()
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
    assert process.communicate() == ("", "")


def test_the_console_requires_a_database_connection(usersync, monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:1")
    done = usersync("console")
    assert done.code == 2
    assert "US103" in done.err
