"""Settings that enable the audit log. By default, the suite installs usersync without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.config.settings import parse_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from usersync.config.settings import Settings

#: The part of a settings file that enables the audit log.
TOML = "[audit]\nenabled = true\n"


def with_audit_log(settings: Mapping[str, Any] | None = None) -> Settings:
    """These settings with the audit log enabled."""
    data = dict(settings or {})
    return parse_settings(data | {"audit": {"enabled": True} | data.get("audit", {})})


def write_settings(directory: Path) -> None:
    """Write a settings file that enables the audit log, for commands that run in this directory."""
    (directory / "usersync.toml").write_text(TOML)
