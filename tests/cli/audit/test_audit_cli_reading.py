from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

pytestmark = pytest.mark.newest_server


@pytest.fixture
def ada(audited):
    return audited.project.auth.admin_create("ada@example.com")


@pytest.fixture
def recorded_events(audited, ada):
    """Events of a product and of other entities."""
    with audited.log.context(actor_id=ada, request_id="r-1", ip="10.0.0.1"):
        audited.record("product.created", entity=("product", 42), after={"name": "Bolt", "stock": 10})
        audited.record("stock.adjusted", entity=("product", 42), changes={"stock": (10, 7)})
    audited.record("product.deleted", entity=("product", 42), outcome="denied", actor_id="intern")
    audited.record("order.placed", entity=("order", 1), metadata={"note": "Express, please"})
    return audited


def actions(done):
    return [event["action"] for event in done.json["events"]]


def fits_80_columns(done):
    return all(len(line) <= 80 for line in done.out.splitlines())


def test_search_shows_the_newest_first(recorded_events, ada):
    done = recorded_events("search")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert "✓ order.placed" in lines[0]
    assert "⊘ product.deleted" in lines[2]
    assert lines[2].endswith("intern")
    assert "stock 10 → 7" in lines[5]
    assert lines[4].endswith(f"{str(ada)[:4]}…{str(ada)[-7:]}")
    assert fits_80_columns(done)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--entity", "product/42", "--outcome", "succeeded"], ["stock.adjusted", "product.created"]),
        (["--entity", "order"], ["order.placed"]),
        (["--action", "product.*"], ["product.deleted", "product.created"]),
        (["--action", "stock.adjusted"], ["stock.adjusted"]),
        (["--actor", "intern"], ["product.deleted"]),
        (["--request", "r-1"], ["stock.adjusted", "product.created"]),
        (["--text", "express"], ["order.placed"]),
        (["--text", "100%"], []),
        (["--since", "1h", "--action", "order.placed"], ["order.placed"]),
        (["--until", "1h"], []),
    ],
)
def test_search_finds_matching_events(recorded_events, options, expected):
    assert actions(recorded_events("search", *options, "--json")) == expected


def test_search_finds_events_linked_to_a_user(recorded_events, ada):
    assert actions(recorded_events("search", "--user", ada, "--json")) == [
        "stock.adjusted",
        "product.created",
    ]


def test_search_prints_the_command_for_the_next_page(recorded_events):
    first = recorded_events("search", "--limit", "3")
    cursor = first.out.split("--after ")[1].strip()
    assert actions(recorded_events("search", "--limit", "3", "--after", cursor, "--json")) == [
        "product.created"
    ]
    assert recorded_events("search", "--limit", "3", "--json").json["next"] == cursor
    assert recorded_events("search", "--limit", "4", "--json").json["next"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--since", "yesterday"], "not a point in time"),
        (["search", "--since", "5m"], "5min or 5mo"),
        (["search", "--since", "1h", "--until", "2h"], "--since must be before --until"),
        (["search", "--entity", "/42"], "for example product/42"),
        (["search", "--action", "*.created"], "a star is allowed at the end only"),
        (["search", "--after", "here"], "not a cursor"),
        (["search", "--outcome", "maybe"], "not one of"),
        (["show", "42"], "not a valid UUID"),
        (["history", "product"], "write type and id"),
        (["prune", "--keep", "never", "--dry-run"], "not a duration"),
        (["prune", "--keep", "9999y", "--dry-run"], "is before the year 1"),
        (["prune", "--dry-run"], "there is no retention: add --keep"),
        (["search", "--since", "99999999999d"], "is too long"),
        (["search", "--since", "999999d"], "is before the year 1"),
        (["search", "--actor"], "usersync audit search --help"),
        (["export", "--format", "xml"], "not one of"),
    ],
)
def test_invalid_arguments_are_refused_with_exit_code_2(audited, arguments, words):
    done = audited(*arguments)
    assert done.code == 2
    assert words.lower() in done.err.lower()


def test_show_prints_all_fields_of_an_event(recorded_events, ada):
    event_id = recorded_events("search", "--action", "product.created", "--json").json["events"][0]["id"]
    done = recorded_events("show", event_id)
    assert done.code == 0
    for words in (
        "✓ product.created",
        f"user_id      {ada}",
        "ip           10.0.0.1",
        'name   null → "Bolt"',
    ):
        assert words in done.out
    assert recorded_events("show", event_id, "--json").json["events"][0]["changes"]["stock"] == [None, 10]
    assert recorded_events("show", uuid4()).code == 1


def test_history_prints_the_events_of_one_entity_in_order(recorded_events, ada):
    done = recorded_events("history", "product/42")
    assert done.code == 0
    assert done.out.index("product.created") < done.out.index("stock.adjusted") < done.out.index("by intern")
    assert "stock  10 → 7" in done.out
    assert f"by {ada}" in done.out
    assert fits_80_columns(done)
    first = recorded_events("history", "product/42", "--limit", "1")
    again = first.out.strip().splitlines()[-1].split()[2:]
    assert "product.created" not in recorded_events(*again).out
    assert "1 event, and more" in first.out
    assert recorded_events("history", "product/43").code == 1


def test_search_and_history_show_on_behalf_of_whom_the_actor_acted(audited, ada):
    fields = {"entity": ("product", 42), "actor_id": "support", "on_behalf_of": ada}
    audited.record("stock.adjusted", changes={"stock": (10, 7)}, **fields)
    assert f"for {str(ada)[:4]}…{str(ada)[-7:]}, stock 10 → 7" in audited("search").out
    assert f"by support on behalf of {ada}" in " ".join(audited("history", "product/42").out.split())


def test_history_marks_changes_of_failed_actions(audited):
    audited.record("stock.adjusted", entity=("product", 42), changes={"stock": (10, 7)}, outcome="denied")
    done = audited("history", "product/42")
    assert done.out.index("was not done:") < done.out.index("stock  10 → 7")
    assert "not done: stock 10 → 7" in audited("search").out
    event_id = audited("search", "--json").json["events"][0]["id"]
    assert "changes that were not done" in audited("show", event_id).out


def test_history_shows_rows_of_tracked_tables(audited):
    owner = audited.project.owner
    owner.execute("create schema shop; create table shop.lines (a int, b text, primary key (a, b))")
    owner.execute("create table public.products (id int primary key)")
    audited("track", "shop.lines")
    audited("track", "products")
    owner.execute("insert into shop.lines values (1, 'two'); insert into products values (42)")
    for entity in ('shop.lines/[1, "two"]', 'shop.lines/[1,"two"]', "products/42"):
        assert "1 event" in audited("history", entity).out, entity
    missed = audited("history", "public.products/42")
    assert missed.code == 1
    assert "Omit the schema public:  products/42" in missed.out


def test_history_omits_the_metadata_of_row_tracking(audited):
    audited.record("product.created", entity=("product", 42), metadata={"why": "sold", "db_role": "x"})
    assert '    {"why": "sold"}' in audited("history", "product/42").out.splitlines()


def test_actors_with_ids_from_the_same_minute_are_distinguishable(audited):
    for end in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        audited.record("a.done", actor_id=f"0198a3f2-1111-7111-8111-{end}")
    assert {line.split()[-1] for line in audited("search").out.splitlines()[:4:2]} == {
        "0198…aaaaaaa",
        "0198…bbbbbbb",
    }


@pytest.mark.parametrize(
    ("command", "width"),
    [("search", 40), ("tail --no-follow", 40), ("stats", 60), ("history product/42", 60)],
)
def test_lines_fit_a_narrow_terminal(recorded_events, command, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    recorded_events.record("an.action.with.quite.a.long.name", entity=("product", 42), actor_id="x" * 40)
    assert all(len(line) <= width for line in recorded_events(*command.split()).out.splitlines())


def test_times_are_in_utc_in_any_session_time_zone(recorded_events, monkeypatch):
    first = recorded_events("search").out
    monkeypatch.setenv("PGTZ", "America/New_York")
    assert recorded_events("search").out == first
    shown = recorded_events("search", "--json").json["events"][0]["occurred_at"]
    assert shown.endswith("+00:00")


def test_stats_count_by_day_and_action(recorded_events):
    done = recorded_events("stats", "--days", "2")
    assert done.code == 0
    assert "product.deleted  1       1" in done.out
    assert "█" not in done.out
    assert sum(each["events"] for each in recorded_events("stats", "--json").json["counts"]) == 4


def test_tail_without_follow_prints_the_newest_events_and_ends(recorded_events):
    done = recorded_events("tail", "-n", "2", "--no-follow")
    assert [line.split()[3] for line in done.out.splitlines()[::2]] == ["product.deleted", "order.placed"]
    documents = recorded_events("tail", "-n", "2", "--no-follow", "--json").out.splitlines()
    assert [json.loads(each)["action"] for each in documents] == ["product.deleted", "order.placed"]
    assert [line.strip() for line in done.out.splitlines()[1::2]] == [
        json.loads(each)["id"] for each in documents
    ]
    assert recorded_events("tail", "-n", "0", "--no-follow").out == ""


def test_a_missing_installation_is_reported(usersync, database):
    for command in (["search"], ["tail"], ["stats"], ["export"], ["rejects"], ["tracked"]):
        done = usersync("audit", *command, "--dsn", database.dsn(), "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "US301"), command


HOSTILE = "a\x1b[2J\x1b]0;owned\x07\r\n\tb\u202ec\u2028d\x9b31me\u200bf\x00"


@pytest.mark.parametrize(
    "command", ["search", "tail --no-follow", "history x/y", "stats", "export", "export --format csv"]
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_hostile_values_are_escaped_on_the_terminal(audited, command, form, monkeypatch):
    monkeypatch.setattr("usersync.cli.audit.export.on_terminal", lambda: True)
    monkeypatch.setattr("usersync.cli.audit.stats.on_terminal", lambda: True)
    fields = dict.fromkeys(("actor_id", "user_agent", "request_id"), HOSTILE)
    audited.record(
        HOSTILE,
        entity=("x", "y"),
        changes={HOSTILE: (HOSTILE, "漢" * 500)},
        metadata={HOSTILE: HOSTILE},
        **fields,
    )
    event_id = audited.record("z" * 5000, entity=("x", "y"), metadata={"much": ["y" * 1_000_000] * 10})
    for arguments in (command.split(), ["show", event_id]):
        done = audited(*arguments, *form)
        assert done.code == 0
        assert not set(done.out) & set("\x1b\x07\x9b\u202e\u2028\u200b\x00")
        lines = done.out.splitlines()
        if not form and "export" not in command:
            assert all(len(line) <= 80 for line in lines)


def test_rejects_are_listed_and_retried(audited):
    owner = audited.project.owner
    bad = [{"id": str(uuid4()), "action": ""}, {"id": str(uuid4()), "action": "x.done", "outcome": "\x1b[2J"}]
    owner.execute("select public.record_audit_events(%s::jsonb)", [json.dumps(bad)])
    done = audited("rejects")
    assert done.code == 1
    assert "2 events rejected" in done.out
    (number,) = owner.execute("select min(reject_id) from usersync.audit_rejects").fetchone()
    assert f"number {number}" in done.out
    assert f"delete from usersync.audit_rejects where reject_id = {number};" in done.out
    assert "is_succeeded_failed_or_denied" in done.out
    assert "\x1b" not in done.out
    assert fits_80_columns(done)
    assert audited("rejects", "--limit", "1", "--json").json["more"] is True
    owner.execute("update usersync.audit_rejects set event = event - 'outcome'")
    done = audited("rejects", "--retry")
    assert done.code == 1
    assert "2 events retried, 1 event stored now" in done.out
    owner.execute("delete from usersync.audit_rejects")
    done = audited("rejects")
    assert (done.code, "nothing was rejected" in done.out) == (0, True)


def recorded_when_they_happened(owner):
    with owner.transaction():
        owner.execute("set local usersync.maintaining = 'audit'")
        owner.execute("update public.audit_logs set recorded_at = occurred_at")


@pytest.mark.parametrize(
    ("ahead", "code"), [(timedelta(days=400), 1), (-timedelta(days=400), 1), (timedelta(hours=2), 0)]
)
def test_prune_uses_the_servers_clock(audited, monkeypatch, ahead, code):
    audited.record("a.b", occurred_at=(datetime.now(UTC) - timedelta(days=200)).isoformat())
    recorded_when_they_happened(audited.project.owner)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + ahead

    monkeypatch.setattr("usersync.core.clocks.datetime", Clock)
    done = audited("prune", "--keep", "13mo", "--yes")
    assert done.code == code
    assert "the database server's clock says" in done.err
    assert len(audited("search", "--json").json["events"]) == 1


def test_prune_shows_a_plan_and_then_drops_whole_months(audited):
    owner = audited.project.owner
    audited.record("new.one")
    audited.record("old.one", occurred_at="2020-05-05")
    owner.execute("select usersync.make_audit_partition('2019-03-01')")
    audited.record("older.one", occurred_at="2019-03-31T23:59Z")
    recorded_when_they_happened(owner)
    dry = audited("prune", "--keep", "13mo", "--dry-run")
    assert dry.code == 0
    assert "audit_logs_2019_03" in dry.out
    assert "Together 2 events" in dry.out
    assert len(audited("search", "--json").json["events"]) == 3
    done = audited("prune", "--keep", "13mo", "--yes", "--json")
    assert done.code == 0
    assert {part["name"]: part["rows"] for part in done.json["parts"]} == {
        "audit_logs_2019_03": 1,
        "audit_logs_default": 1,
    }
    assert actions(audited("search", "--json")) == ["usersync.log_pruned", "new.one"]
    assert "nothing is older" in audited("prune", "--keep", "13mo", "--yes").out
    # With nothing to delete, prune asks no question, and does not report a dry run.
    assert audited("prune", "--keep", "13mo").code == 0
    assert audited("prune", "--keep", "13mo", "--json").json["dry_run"] is False


def test_prune_reports_rows_deleted_from_the_default_partition(audited):
    audited.record("kept.one", occurred_at="1999-05-05")
    audited.record("old.one", occurred_at="1990-05-05")
    recorded_when_they_happened(audited.project.owner)
    assert "cannot ask for confirmation" in audited("prune", "--keep", "30y").err
    done = audited("prune", "--keep", "30y", "--yes")
    assert "1 event deleted from audit_logs_default" in done.err
    assert actions(audited("search", "--json")) == ["usersync.log_pruned", "kept.one"]
