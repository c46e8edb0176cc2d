"""Subscriptions of the kind "stream": what they store, and operations on them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.audit.reading import settings_with_log
from usersync.config.extras import missing
from usersync.core.installed import installation_id
from usersync.errors import SettingsError
from usersync.events import subscriptions
from usersync.events.formats import DEFAULT_FORMAT
from usersync.events.models import Subscription
from usersync.events.sample import send_to
from usersync.events.streams.delivery import StreamDelivery
from usersync.events.targets import check_kind, checked_actions
from usersync.transports.jetstream.address import StreamAddress
from usersync.transports.jetstream.connection import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usersync.events.delivery import AttemptOutcome
    from usersync.transports.steps import Steps


@dataclass(frozen=True)
class StreamTarget:
    """What the subscription of a stream stores."""

    #: The servers and the stream, without the login.
    address: StreamAddress
    format_name: str
    installation: str
    #: The login, encrypted; None if there is none.
    login: str | None = None

    @classmethod
    def of(cls, subscription: Subscription) -> StreamTarget:
        """The target of a stored subscription. Raises ``SettingsError`` if it is of another kind."""
        check_kind(subscription, subscriptions.STREAM)
        config = subscription.config
        return cls(
            StreamAddress.parse(config["url"]),
            config["format"],
            config["installation"],
            next((each["encrypted"] for each in config["secrets"]), None),
        )

    @property
    def config(self) -> dict[str, Any]:
        """The ``config`` of the subscription, as the database stores it."""
        return {
            "url": self.address.url,
            "format": self.format_name,
            "installation": self.installation,
            "secrets": [{"encrypted": self.login}] if self.login else [],
        }

    def with_login(self) -> StreamAddress:
        """The address with its login, decrypted. Raises ``SettingsError`` if no key fits."""
        if self.login is None:
            return self.address
        return self.address.with_login(_box().decrypt(self.login).text)


def _box() -> Any:
    if lacking := missing("nats", "a stream with a login"):
        raise lacking
    from usersync.events.secret_box import SecretBox  # noqa: PLC0415 - only for a login

    return SecretBox.from_environment()


def _encrypted(address: StreamAddress) -> str | None:
    if not address.has_login:
        return None
    box = _box()
    from usersync.events.secret_box import Secret  # noqa: PLC0415 - only for a login

    encrypted: str = box.encrypt(Secret(address.login.text))
    return encrypted


def delivery_of(subscription: Subscription, *, warns: bool = True) -> StreamDelivery:
    """The delivery that publishes the events of a subscription."""
    target = StreamTarget.of(subscription)
    return StreamDelivery(
        subscription.name,
        target.with_login,
        target.installation,
        format_name=target.format_name,
        warns=warns,
    )


def new_stream(
    name: str,
    url: str,
    actions: Iterable[str],
    *,
    wanted: Mapping[str, Any] | None = None,
    format_name: str = DEFAULT_FORMAT,
) -> Steps[Subscription]:
    """The subscription of a stream, checked and with its login encrypted. It is not stored yet.

    Raises ``ArgumentValueError`` and ``SettingsError`` before it runs a statement.
    """
    actions = checked_actions(name, actions, format_name)
    address = StreamAddress.parse(url)
    target = StreamTarget(address, format_name, "", _encrypted(address))
    return _new(Subscription(name, subscriptions.STREAM, actions, wanted or {}), target)


def _new(subscription: Subscription, target: StreamTarget) -> Steps[Subscription]:
    yield from settings_with_log()
    target = replace(target, installation=(yield from installation_id()))
    return replace(subscription, config=target.config)


@dataclass(frozen=True)
class CheckedStream:
    """The stream of a subscription, and in which ways it loses events."""

    name: str
    risks: tuple[str, ...]


def check_stream(subscription: Subscription) -> CheckedStream:
    """Find the stream, or create it. Raises ``SettingsError`` if that fails. Blocks for seconds at most."""
    return asyncio.run(_check(delivery_of(subscription, warns=False)))


async def _check(delivery: StreamDelivery) -> CheckedStream:
    try:
        return CheckedStream(*await delivery.check())
    except StreamError as error:
        raise SettingsError(
            f"the stream is not usable: {error}",
            hint="Check the URL, the permissions of the NATS user, and that JetStream is enabled.",
        ) from None
    finally:
        await delivery.close()


def send_sample(subscription: Subscription) -> AttemptOutcome:
    """Publish a test event, which is not in the audit log. Blocks until the stream answers."""
    return asyncio.run(send_to(delivery_of(subscription, warns=False)))
