"""For OpenTelemetry (extra ``opentelemetry``).

::

    from opentelemetry.metrics import get_meter
    from usersync.metrics.opentelemetry import observe

    observe(get_meter("my_app"), audit=audit)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.config.extras import needed
from usersync.metrics import Definition, definitions
from usersync.metrics.reading import Reading

with needed("opentelemetry", "usersync.metrics.opentelemetry"):
    from opentelemetry.metrics import CallbackOptions, Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import Meter

__all__ = ["observe"]


def observe(meter: Meter, **sources: Any) -> Reading:
    """Create an observable instrument for each metric. Takes the arguments of ``Reading``, and returns
    one.
    """
    reading = Reading(**sources)
    for definition in definitions():
        make = (
            meter.create_observable_counter if definition.kind == "counter" else meter.create_observable_gauge
        )
        make(
            definition.name.replace("_", ".", 1),
            callbacks=[_callback(reading, definition)],
            unit=definition.unit,
            description=definition.help,
        )
    return reading


def _callback(reading: Reading, definition: Definition) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observations(_: CallbackOptions) -> Iterable[Observation]:
        for sample in reading.samples():
            if sample.definition is definition:
                labels = dict(zip(definition.labels, sample.labels, strict=True))
                yield Observation(float(sample.value), labels)

    return observations
