"""The setting ``USERSYNC``, checked when it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.db import connections
from django.utils.module_loading import import_string

from usersync.audit.options import Options
from usersync.config.mapping import did_you_mean
from usersync.config.settings import FILE_NAME, Settings, load_settings, parse_settings
from usersync.contrib.request import TrustedProxies
from usersync.errors import SettingsError

FindActor = Callable[[Any], Any]
"""The function of ``ACTOR``: takes the request; returns the actor's id, or a mapping of context fields."""


@dataclass(frozen=True)
class Config:
    """The setting ``USERSYNC``. Each field is a key, in upper case."""

    #: The alias of the database with usersync. None, as in most tests: events are kept in memory, and nothing
    #: is installed, checked or sent.
    database: str | None = "default"
    #: The content of ``usersync.toml``. Without it, that file in ``BASE_DIR`` is read, if it exists.
    settings: Mapping[str, Any] | None = None
    #: See ``TrustedProxies``.
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    #: The path of a ``FindActor``, for projects in which ``request.user`` is not the actor.
    actor: FindActor | None = None
    #: Arguments of ``TokenVerifier.from_env()``, which verifies Supabase's access tokens. None: no
    #: verification.
    tokens: Mapping[str, Any] | None = None
    #: Pass the actor to the database, for the tables that ``usersync audit track`` records.
    pass_context: bool = False
    #: Options of the ``AuditLog``.
    audit: Mapping[str, Any] = field(default_factory=dict)

    def schema_settings(self) -> Settings:
        """The settings for the installation. Raises ``SettingsError``."""
        if self.settings is None:
            return load_settings(directory=_base_dir())
        try:
            return parse_settings(self.settings)
        except SettingsError as error:
            raise SettingsError(f'USERSYNC["SETTINGS"]: {error}', hint=error.hint) from None

    @property
    def settings_source(self) -> str:
        """The source of ``schema_settings()``, to be shown."""
        if self.settings is not None:
            return 'USERSYNC["SETTINGS"]'
        return FILE_NAME if (_base_dir() / FILE_NAME).is_file() else "defaults"


@cache
def config() -> Config:
    """The setting ``USERSYNC``; raises a ``SettingsError`` that names the key."""
    given = getattr(django_settings, "USERSYNC", {})
    if not isinstance(given, dict):
        raise SettingsError(f"USERSYNC: expected a dict, got {type(given).__name__}")
    known = {each.name.upper() for each in fields(Config)}
    for key in given:
        if key not in known:
            raise SettingsError(f"USERSYNC: unknown key {key!r}", hint=did_you_mean(str(key), known))
    try:
        return Config(**{key.lower(): _READERS[key](value) for key, value in given.items()})
    except SettingsError as error:
        raise SettingsError(f"USERSYNC: {error}", hint=error.hint) from None


def _base_dir() -> Path:
    return Path(getattr(django_settings, "BASE_DIR", None) or Path.cwd())


def _read_alias(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value in connections.databases):
        return value
    raise SettingsError(
        f"DATABASE: there is no database {value!r} in DATABASES",
        hint=did_you_mean(str(value), connections.databases),
    )


def _read_proxies(value: object) -> TrustedProxies:
    if not isinstance(value, list | tuple | set | frozenset):
        raise SettingsError(f"TRUSTED_PROXIES: expected a list, got {value!r}")
    return TrustedProxies(value)


def _read_mapping(value: object) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise SettingsError(f"SETTINGS and TOKENS: expected a dict or None, got {type(value).__name__}")
    return value


def _read_actor(value: object) -> FindActor | None:
    found = value
    if isinstance(value, str):
        try:
            found = import_string(value)
        except ImportError as error:
            raise SettingsError(f"ACTOR: {error}", hint='Write "package.module.function".') from None
    if found is not None and not callable(found):
        raise SettingsError(f"ACTOR: expected a function of the request, or the path of one, got {value!r}")
    return found


def _read_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"PASS_CONTEXT: expected True or False, got {value!r}")
    return value


def _read_options(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"AUDIT: expected a dict, got {type(value).__name__}")
    known = {each.name for each in fields(Options)}
    for key in value:
        if key not in known:
            raise SettingsError(f"AUDIT: unknown option {key!r}", hint=did_you_mean(str(key), known))
    Options(**value)
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "DATABASE": _read_alias,
    "SETTINGS": _read_mapping,
    "TRUSTED_PROXIES": _read_proxies,
    "ACTOR": _read_actor,
    "TOKENS": _read_mapping,
    "PASS_CONTEXT": _read_switch,
    "AUDIT": _read_options,
}


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"USERSYNC", "DATABASES", "BASE_DIR"}:
        config.cache_clear()


# Tests change settings.
setting_changed.connect(_forget)
