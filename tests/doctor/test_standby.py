"""Connected to a hot standby by mistake: every command says that it accepts no writes."""

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
def standby(pair, everything, tmp_path, monkeypatch):
    """A streaming standby, to which the connection string in the environment leads."""
    with psycopg.connect(pair.primary.dsn(pair.database), autocommit=True) as connection:
        connection.execute(
            "insert into usersync.audit_rejects (event, sqlstate, reason) values ('{}', '', '')"
        )
        connection.execute(
            "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
            "values (gen_random_uuid(), 'failed', '23505', 'made up')"
        )
    way = everything.enter_context(Proxy(pair.primary.host, pair.primary.port))
    server = everything.enter_context(pair.standby(way))
    until(lambda: has_replayed(pair.primary, server))
    pair.fail_over_to(server)
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path)
    monkeypatch.setenv("SUPABASE_DB_URL", pair.dsn)
    return pair


def test_every_command_says_that_it_is_a_standby(standby, capsys):
    assert run(["doctor"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "D036" in said
    assert "standby" in said
    assert "cannot inspect" not in said
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
        said = "".join(capsys.readouterr())
        assert "US205" in said, (command, said)
    for command in (["plan"], ["apply", "--yes"]):
        assert run(command) == 1, command
        assert "accepts no writes" in capsys.readouterr().out, command
    with UserSync(standby.dsn) as sync:
        assert sync.status().read_only == "standby"
