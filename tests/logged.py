"""Settings that ask for an audit log. Without them the suite installs none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.config.settings import parse_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from usersync.config.settings import Settings

#: What a settings file says then.
TOML = "[audit]\nenabled = true\n"


def logged(settings: Mapping[str, Any] | None = None) -> Settings:
    """These settings, with an audit log."""
    data = dict(settings or {})
    return parse_settings(data | {"audit": {"enabled": True} | data.get("audit", {})})


def write_settings(directory: Path) -> None:
    """A settings file that asks for an audit log, for commands that run in this directory."""
    (directory / "usersync.toml").write_text(TOML)
