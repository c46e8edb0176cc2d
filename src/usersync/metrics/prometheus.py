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


class UsersyncCollector(Reading, Collector):
    """To be registered; takes what ``Reading`` takes."""

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, once a scrape."""
        families: dict[str, Family] = {}
        for sample in self.samples():
            name = sample.definition.name
            family = families.setdefault(name, _family(sample.definition))
            family.add_metric(sample.labels, float(sample.value))
        yield from families.values()

    def describe(self) -> Iterable[Metric]:
        """Every metric that ``collect()`` may give, without asking the database.

        The registry refuses a second collector by these names, and answers ``name[]=`` with them.
        """
        return map(_family, definitions())


def _family(definition: Definition) -> Family:
    kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    return kind(definition.name, definition.help, labels=definition.labels)
