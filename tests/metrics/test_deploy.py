"""The alert rules and the dashboard: they are read by their programs, and name only what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml

from usersync.metrics import definitions

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana/usersync.json").read_text())

_LABELS = {
    each.name + ("_total" if each.kind == "counter" else ""): set(each.labels) for each in definitions()
}
_OF_PROMETHEUS = {"instance", "job"}

RULES = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
QUERIES = {f"alert {name}": rule["expr"] for name, rule in RULES.items()} | {
    f"panel {panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}


def test_there_is_something_to_check():
    assert len(RULES) >= 9
    assert len(QUERIES) > 20


@pytest.mark.parametrize("name", QUERIES)
def test_every_figure_and_label_that_is_named_exists(name):
    query = QUERIES[name]
    figures = re.findall(r"\busersync_\w+", query)
    assert figures
    assert set(figures) <= set(_LABELS)
    known = set().union(*(_LABELS[each] for each in figures)) | _OF_PROMETHEUS
    matched = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query)
    grouped = [label.strip() for each in re.findall(r"\bby \(([^)]*)\)", query) for label in each.split(",")]
    assert set(matched + grouped) <= known
    # Grafana fills its variables in before Prometheus reads it.
    promql_parser.parse(re.sub(r"\$__\w+", "5m", query).replace("$", ""))


def test_two_figures_with_other_labels_meet():
    """PromQL's "and" finds nothing where the labels of both sides differ, and the rule would never fire."""
    joined = [
        each
        for query in QUERIES.values()
        for each in re.findall(
            r"(usersync_\w+)[^()]* and (?:ignoring \(([^)]*)\) )?(usersync_\w+)", " ".join(query.split())
        )
    ]
    assert joined
    for left, ignored, right in joined:
        assert _LABELS[left] ^ _LABELS[right] == set(re.findall(r"\w+", ignored)), (left, right)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_what_is_wrong_and_what_to_do(name):
    rule = RULES[name]
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["action"]
    assert re.fullmatch(r"\d+m", rule.get("for", "1m"))


def test_every_command_that_a_rule_names_exists():
    from usersync.cli.group import usersync  # noqa: PLC0415

    for rule in RULES.values():
        for words in re.findall(r"usersync ((?:[a-z]+ ?)+)", rule["annotations"]["action"]):
            assert words.split()[0] in usersync.list_commands(None)


def test_the_dashboard_has_no_two_panels_in_one_place():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
