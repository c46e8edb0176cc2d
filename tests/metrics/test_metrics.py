"""The metrics that Prometheus and OpenTelemetry get."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from usersync import AuditLog, Handlers, UserSync
from usersync.audit.feed import number_events
from usersync.events import subscriptions
from usersync.events.definitions import definitions
from usersync.metrics.opentelemetry import observe
from usersync.metrics.prometheus import UsersyncCollector
from usersync.transports.run import run

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nowhere"

pytestmark = pytest.mark.newest_server


@pytest.fixture
def audit_enabled():
    return True


@pytest.fixture
def registry():
    return CollectorRegistry()


def test_metrics_count_users_sync_failures_and_runs(project, registry):
    registry.register(UsersyncCollector(sync=project.client, max_age=0))
    project.auth.sign_up_email("ada@example.com")
    assert registry.get_sample_value("usersync_up") == 1
    assert registry.get_sample_value("usersync_auth_users") == 1
    assert registry.get_sample_value("usersync_users") == 1
    assert registry.get_sample_value("usersync_lag_seconds") == 0
    assert registry.get_sample_value("usersync_last_run_finished") is None
    project.owner.execute(f"alter table {project.users} add column team text not null default 'x'")
    project.owner.execute(f"alter table {project.users} alter column team drop default")
    project.auth.sign_up_email("bob@example.com")
    assert registry.get_sample_value("usersync_sync_failures", {"sqlstate": "23502"}) == 1
    assert registry.get_sample_value("usersync_differing_users", {"difference": "missing"}) == 1
    assert registry.get_sample_value("usersync_lag_seconds") > 0
    assert registry.get_sample_value("usersync_oldest_failure_age_seconds") > 0
    project.client.reconcile()
    assert registry.get_sample_value("usersync_last_run_finished") == 1
    assert registry.get_sample_value("usersync_last_run_age_seconds") >= 0


def test_metrics_show_lag_workers_and_dead_events_of_a_subscription(project, registry):
    handlers = Handlers()
    handlers.on("user.*", name="crm")(print)
    run(subscriptions.sync_handlers(definitions(handlers)), project.owner)
    registry.register(UsersyncCollector(sync=project.client, max_age=0))
    crm = {"subscription": "crm"}
    assert registry.get_sample_value("usersync_subscription_lag_events", crm) == 0
    project.auth.sign_up_email("ada@example.com")
    # Without a worker, the event gets no number.
    lag = registry.get_sample_value("usersync_subscription_lag_events", crm)
    assert lag >= 1
    run(number_events(), project.owner)
    assert registry.get_sample_value("usersync_subscription_lag_events", crm) == lag
    assert registry.get_sample_value("usersync_subscription_workers", crm) == 0
    assert registry.get_sample_value("usersync_subscription_in_flight_events", crm) == 0
    assert registry.get_sample_value("usersync_subscription_parked_events", crm | {"state": "dead"}) == 0


def test_the_database_is_not_read_again_within_max_age(project, registry):
    registry.register(UsersyncCollector(sync=project.client, max_age=3600))
    assert registry.get_sample_value("usersync_auth_users") == 0
    project.auth.sign_up_email()
    assert registry.get_sample_value("usersync_auth_users") == 0


def test_without_a_database_only_usersync_up_is_reported(registry, tmp_path, caplog):
    with UserSync(UNREACHABLE) as sync:
        collector = UsersyncCollector(sync=sync, spool_dir=tmp_path / "none", max_age=3600)
        registry.register(collector)
        names = {metric.name for metric in registry.collect()}
    assert names == {"usersync_up"}
    assert registry.get_sample_value("usersync_up") == 0
    assert collector.error is not None
    assert "cannot ask the database" in caplog.text


def test_metrics_count_events_of_an_audit_log_and_its_spool(registry, tmp_path):
    with AuditLog(UNREACHABLE, spool_dir=tmp_path) as audit:
        registry.register(UsersyncCollector(audit=audit, spool_dir=tmp_path))
        for _ in range(3):
            audit.record("a.b")
        audit.flush(timeout=0)
        assert registry.get_sample_value("usersync_audit_events_total", {"result": "accepted"}) == 3
        assert registry.get_sample_value("usersync_audit_events_total", {"result": "dropped"}) == 0
        assert registry.get_sample_value("usersync_audit_waiting_events", {"place": "spool"}) == 3
        assert registry.get_sample_value("usersync_audit_oldest_waiting_seconds") > 0
        assert registry.get_sample_value("usersync_audit_spooling") == 1
        (spool,) = (each.name for each in tmp_path.iterdir())
        assert registry.get_sample_value("usersync_spool_events", {"spool": spool}) == 3
        assert registry.get_sample_value("usersync_spool_bytes", {"spool": spool}) > 0
        assert registry.get_sample_value("usersync_spool_oldest_age_seconds", {"spool": spool}) > 0
        audit.close(timeout=0)


def test_metrics_measure_the_time_of_batches(project, registry, tmp_path):
    with AuditLog(project.database.dsn(), spool_dir=tmp_path) as audit:
        registry.register(UsersyncCollector(audit=audit))
        audit.record("a.b")
        assert audit.flush(timeout=30)
        assert registry.get_sample_value("usersync_audit_batches_total") == 1
        assert 0 < registry.get_sample_value("usersync_audit_batch_seconds_total") < 30
        assert registry.get_sample_value("usersync_audit_events_total", {"result": "stored"}) == 1


def test_opentelemetry_gets_the_same_values(project, tmp_path):
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    project.auth.sign_up_email()
    with AuditLog(UNREACHABLE, spool_dir=tmp_path) as audit:
        observe(meter, sync=project.client, audit=audit, spool_dir=tmp_path)
        audit.record("a.b")
        (resource,) = reader.get_metrics_data().resource_metrics
        audit.close(timeout=0)
    (scope,) = resource.scope_metrics
    points = {
        (metric.name, *point.attributes.values()): point.value
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert points[("usersync.up",)] == 1
    assert points[("usersync.auth_users",)] == 1
    assert points[("usersync.differing_users", "missing")] == 0
    assert points[("usersync.audit_events", "accepted")] == 1
    units = {metric.name: metric.unit for metric in scope.metrics}
    assert units["usersync.lag_seconds"] == "s"


def test_a_single_metric_can_be_collected_by_name(registry):
    registry.register(UsersyncCollector(sync=UserSync(UNREACHABLE)))
    (family,) = registry.restricted_registry(["usersync_up"]).collect()
    assert family.name == "usersync_up"


def test_a_second_collector_is_refused(registry):
    registry.register(UsersyncCollector())
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(UsersyncCollector())
