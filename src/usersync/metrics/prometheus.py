"""For ``prometheus_client`` (extra ``prometheus``).

::

    from prometheus_client import REGISTRY
    from usersync.metrics.prometheus import UsersyncCollector

    REGISTRY.register(UsersyncCollector(audit=audit))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from usersync.metrics.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric


class UsersyncCollector(Reading, Collector):
    """To be registered; takes what :class:`~usersync.metrics.reading.Reading` takes."""

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, once a scrape."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in self.samples():
            definition = sample.definition
            family = families.get(definition.name)
            if family is None:
                kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
                family = kind(definition.name, definition.help, labels=definition.labels)
                families[definition.name] = family
            family.add_metric(sample.labels, float(sample.value))
        yield from families.values()

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register it would have to ask the database otherwise."""
        return ()
