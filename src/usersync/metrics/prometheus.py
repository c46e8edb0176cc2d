"""For ``prometheus_client`` (extra ``prometheus``).

::

    from prometheus_client import REGISTRY
    from usersync.metrics.prometheus import UsersyncCollector

    REGISTRY.register(UsersyncCollector(audit=audit))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.extras import needed
from usersync.metrics import definitions
from usersync.metrics.reading import Reading

with needed("prometheus", "usersync.metrics.prometheus"):
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from usersync.metrics import Definition

    Family = CounterMetricFamily | GaugeMetricFamily

__all__ = ["UsersyncCollector"]


class UsersyncCollector(Reading, Collector):
    """A collector for ``REGISTRY.register()``. Takes the arguments of ``Reading``."""

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape. Blocks while it queries the database."""
        families: dict[str, Family] = {}
        for sample in self.samples():
            name = sample.definition.name
            family = families.setdefault(name, _family(sample.definition))
            family.add_metric(sample.labels, float(sample.value))
        yield from families.values()

    def describe(self) -> Iterable[Metric]:
        """All metrics that ``collect()`` may return, without querying the database.

        The registry uses the names to reject a second collector, and for queries with ``name[]=``.
        """
        return map(_family, definitions())


def _family(definition: Definition) -> Family:
    kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    return kind(definition.name, definition.help, labels=definition.labels)
