"""A Flask application with all of usersync's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from usersync import UserSync
from usersync.contrib.auth import TokenVerifier
from usersync.contrib.flask import FlaskUserSync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make_app(backend: Any) -> Iterator[Callable[..., tuple[Flask, FlaskUserSync]]]:
    """Create an application and its extension for ``backend``; closes its connection at the end."""
    made: list[tuple[Flask, FlaskUserSync]] = []

    def make(dsn: str | None = None, **options: Any) -> tuple[Flask, FlaskUserSync]:
        given = {
            "verifier": TokenVerifier(backend.tokens.url),
            "connect": lambda: UserSync(dsn or backend.dsn),
            **options,
        }
        app = Flask("application")
        users = FlaskUserSync(app, trusted_proxies=["10.0.0.0/8"], **given)
        made.append((app, users))
        return app, users

    yield make
    for app, users in made:
        users.close(app)
