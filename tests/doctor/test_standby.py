"""The connection string leads to a hot standby by mistake. Each command says that it accepts no writes."""

from __future__ import annotations

import psycopg
import pytest

from audit_settings import write_settings
from fixtures_replication import has_replayed
from proxy import Proxy
from usersync import UserSync
from usersync.cli.main import run
from waiting import until

pytestmark = pytest.mark.newest_server


@pytest.fixture
def standby(pair, exit_stack, tmp_path, monkeypatch):
    """A streaming standby. The connection string in the environment leads to it."""
    with psycopg.connect(pair.primary.dsn(pair.database), autocommit=True) as connection:
        connection.execute(
            "insert into usersync.audit_rejects (event, sqlstate, reason) values ('{}', '', '')"
        )
        connection.execute(
            "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
            "values (gen_random_uuid(), 'failed', '23505', 'made up')"
        )
    way = exit_stack.enter_context(Proxy(pair.primary.host, pair.primary.port))
    server = exit_stack.enter_context(pair.standby(way))
    until(lambda: has_replayed(pair.primary, server))
    pair.fail_over_to(server)
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path)
    monkeypatch.setenv("SUPABASE_DB_URL", pair.dsn)
    return pair


@pytest.mark.slow
def test_each_command_says_that_the_database_is_a_standby(standby, capsys):
    assert run(["doctor"]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "D036" in output
    assert "standby" in output
    assert "cannot inspect" not in output
    assert run(["status"]) == 1
    assert "read-only" in capsys.readouterr().out
    assert run(["metrics"]) == 0
    assert "usersync_database_writable 0" in capsys.readouterr().out
    for command in (
        ["sync"],
        ["retry"],
        ["pause"],
        ["rollback", "--yes"],
        ["audit", "track", "public.users"],
        ["audit", "rejects", "--retry"],
    ):
        assert run(command) == 1, command
        output = "".join(capsys.readouterr())
        assert "US205" in output, (command, output)
    for command in (["plan"], ["apply", "--yes"]):
        assert run(command) == 1, command
        assert "accepts no writes" in capsys.readouterr().out, command
    with UserSync(standby.dsn) as sync:
        assert sync.status().read_only == "standby"
