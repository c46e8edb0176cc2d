"""The files in deploy/ are valid, and name only existing metrics, options and paths."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import promql_parser
import pytest
import yaml

from hooks_skips import skip_without
from usersync.cli.worker import worker
from usersync.events.handlers import Handlers
from usersync.metrics import definitions
from usersync.worker.health import LIVE, METRICS, READY

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana/usersync.json").read_text())

_LABELS = {
    each.name + ("_total" if each.kind == "counter" else ""): set(each.labels) for each in definitions()
}
_LABELS_OF_PROMETHEUS = {"instance", "job"}

RULES = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
QUERIES = {f"alert {name}": rule["expr"] for name, rule in RULES.items()} | {
    f"panel {panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}


def test_the_files_have_rules_and_queries():
    assert len(RULES) >= 9
    assert len(QUERIES) > 20


@pytest.mark.parametrize("name", QUERIES)
def test_queries_name_existing_metrics_and_labels_only(name):
    query = QUERIES[name]
    figures = re.findall(r"\busersync_\w+", query)
    assert figures
    assert set(figures) <= set(_LABELS)
    known = set().union(*(_LABELS[each] for each in figures)) | _LABELS_OF_PROMETHEUS
    matched = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query)
    grouped = [label.strip() for each in re.findall(r"\bby \(([^)]*)\)", query) for label in each.split(",")]
    assert set(matched + grouped) <= known
    # Grafana fills its variables in before Prometheus reads it.
    promql_parser.parse(re.sub(r"\$__\w+", "5m", query).replace("$", ""))


def test_metrics_joined_by_and_have_the_same_labels():
    """PromQL's "and" matches only series with the same labels. Otherwise the rule would never fire."""
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
def test_every_alert_has_a_summary_and_a_command(name):
    rule = RULES[name]
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["action"]
    assert re.fullmatch(r"\d+m", rule.get("for", "1m"))


def test_every_command_in_an_alert_exists():
    from usersync.cli.group import usersync  # noqa: PLC0415

    for rule in RULES.values():
        for words in re.findall(r"usersync ((?:[a-z]+ ?)+)", rule["annotations"]["action"]):
            assert words.split()[0] in usersync.list_commands(None)


def test_the_panels_of_the_dashboard_do_not_overlap():
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


UNIT = DEPLOY / "systemd/usersync-worker.service"
DOCKERFILE = DEPLOY / "docker/Dockerfile"
MANIFEST = DEPLOY / "kubernetes/worker.yaml"


def program(name):
    return shutil.which(name) or skip_without(name)


def checked(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def instructions():
    """The instructions of the Dockerfile, each split into words."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def one(name):
    (found,) = [words for each, words in instructions() if each == name]
    return found


def deployment():
    kinds = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}
    assert set(kinds) == {"Deployment", "PodDisruptionBudget"}
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert {json.dumps(each["spec"]["selector"]["matchLabels"]) for each in kinds.values()} == {
        json.dumps(labels)
    }
    return kinds["Deployment"]["spec"]["template"]


def unit_setting(name):
    return dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))[name]


COMMANDS = {
    "systemd": shlex.split(unit_setting("ExecStart")),
    "Docker": json.loads(one("CMD")),
    "Kubernetes": deployment()["spec"]["containers"][0]["command"],
}


@pytest.mark.parametrize("place", COMMANDS)
def test_the_worker_is_started_with_existing_options(place):
    path, name, *arguments = COMMANDS[place]
    assert (Path(path).name, name) == ("usersync", "worker")
    context = click.Context(worker, info_name="worker")
    worker.parse_args(context, arguments)
    assert context.params["handlers"] == "myapp.events:handlers"
    assert context.params["address"][1] == 8080


def test_probes_use_existing_paths_of_the_worker():
    template = deployment()
    (container,) = template["spec"]["containers"]
    (port,) = container["ports"]
    assert (port["name"], port["containerPort"]) == ("health", 8080)
    assert container["livenessProbe"]["httpGet"] == {"path": LIVE, "port": "health"}
    assert container["readinessProbe"]["httpGet"] == {"path": READY, "port": "health"}
    assert template["metadata"]["annotations"]["prometheus.io/path"] == METRICS
    assert template["metadata"]["annotations"]["prometheus.io/port"] == one("EXPOSE") == "8080"
    assert f"http://127.0.0.1:8080{LIVE}" in one("HEALTHCHECK")
    volumes = {each["name"] for each in template["spec"]["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes


def test_the_stop_timeout_is_longer_than_a_handlers_time_limit():
    handlers = Handlers()
    handlers.on("a.b")(print)
    longest = max(each.time_limit for each in handlers)
    assert int(unit_setting("TimeoutStopSec")) > longest
    assert deployment()["spec"]["terminationGracePeriodSeconds"] > longest


def test_systemd_accepts_the_unit(tmp_path):
    unit = tmp_path / UNIT.name
    # The program must exist. A path with a space would need quotes.
    unit.write_text(UNIT.read_text().replace(COMMANDS["systemd"][0], "/bin/true"))
    checked(program("systemd-analyze"), "verify", "--man=no", str(unit))


def test_kubectl_accepts_the_manifest(tmp_path):
    shutil.copy(MANIFEST, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{MANIFEST.name}]\n")
    built = checked(program("kubectl"), "kustomize", str(tmp_path))
    assert list(yaml.safe_load_all(built)) == list(yaml.safe_load_all(MANIFEST.read_text()))


def test_the_dockerfile_has_known_instructions_and_passes_hadolint():
    assert {name for name, _ in instructions()} == {
        *("FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "CMD")
    }
    assert one("USER") == str(deployment()["spec"]["securityContext"]["runAsUser"])
    checked(program("hadolint"), str(DOCKERFILE))
