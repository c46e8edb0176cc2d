"""Subscriptions of the kind "webhook": what they store, and operations on them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from usersync.core.home import CLUSTER_SQL
from usersync.events import subscriptions
from usersync.events.formats import DEFAULT_FORMAT
from usersync.events.models import Subscription
from usersync.events.sample import send_to
from usersync.events.secret_box import Secret, SecretBox, new_secret
from usersync.events.targets import check_kind, checked_actions
from usersync.events.webhooks.delivery import WebhookDelivery
from usersync.events.webhooks.endpoint import Endpoint
from usersync.transports.steps import Steps, in_transaction, query, query_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from usersync.events.delivery import AttemptOutcome

#: How long the old secret stays valid after a rotation.
KEEP_OLD = timedelta(days=1)


@dataclass(frozen=True)
class StoredSecret:
    """A secret as the database has it: encrypted."""

    encrypted: str
    valid_until: datetime | None = None

    @property
    def is_valid(self) -> bool:
        """Whether requests are signed with it."""
        return self.valid_until is None or datetime.now(UTC) < self.valid_until


@dataclass(frozen=True)
class Webhook:
    """What the subscription of a webhook stores."""

    endpoint: Endpoint
    format_name: str
    #: The newest first.
    secrets: tuple[StoredSecret, ...]

    @classmethod
    def of(cls, subscription: Subscription) -> Webhook:
        """Of a stored subscription. Raises ``SettingsError`` if it is of another kind."""
        check_kind(subscription, subscriptions.WEBHOOK)
        config = subscription.config
        return cls(
            Endpoint(config["url"], allow_private=config["allow_private"]),
            config["format"],
            tuple(_stored(each) for each in config["secrets"]),
        )

    @property
    def config(self) -> dict[str, Any]:
        """For the database."""
        return {
            "url": self.endpoint.url,
            "allow_private": self.endpoint.allow_private,
            "format": self.format_name,
            "secrets": [
                {
                    "encrypted": each.encrypted,
                    "valid_until": each.valid_until.isoformat() if each.valid_until else None,
                }
                for each in self.secrets
            ],
        }


def _stored(secret: Mapping[str, Any]) -> StoredSecret:
    until = secret["valid_until"]
    return StoredSecret(secret["encrypted"], datetime.fromisoformat(until) if until else None)


class _Decrypted:
    """The valid secrets of a webhook. Decrypted at the first event, so an error belongs to its attempt."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    @cached_property
    def _secrets(self) -> Sequence[tuple[StoredSecret, Secret]]:
        box = SecretBox.from_environment()
        return [(each, box.decrypt(each.encrypted)) for each in self._webhook.secrets if each.is_valid]

    def __call__(self) -> list[Secret]:
        return [secret for stored, secret in self._secrets if stored.is_valid]


def delivery_of(subscription: Subscription) -> WebhookDelivery:
    """What a worker sends the events of a subscription with."""
    webhook = Webhook.of(subscription)
    return WebhookDelivery(webhook.endpoint, _Decrypted(webhook), format_name=webhook.format_name)


def add_webhook(
    name: str,
    url: str,
    actions: Iterable[str],
    *,
    wanted: Mapping[str, Any] | None = None,
    format_name: str = DEFAULT_FORMAT,
    allow_private: bool = False,
    from_beginning: bool = False,
    backfill: bool = False,
) -> Steps[Secret]:
    """Create the subscription of a webhook. Returns its secret, which is never shown again.

    Raises ``ArgumentValueError`` and ``SettingsError`` before it runs a statement.
    """
    actions = checked_actions(name, actions, format_name)
    secret, box = new_secret(), SecretBox.from_environment()
    webhook = Webhook(
        Endpoint(url, allow_private=allow_private), format_name, (StoredSecret(box.encrypt(secret)),)
    )
    subscription = Subscription(name, subscriptions.WEBHOOK, actions, wanted or {}, webhook.config)
    return _add(subscription, secret, from_beginning=from_beginning, backfill=backfill)


def _add(
    subscription: Subscription, secret: Secret, *, from_beginning: bool, backfill: bool
) -> Steps[Secret]:
    yield from subscriptions.add(subscription, from_beginning=from_beginning, backfill=backfill)
    return secret


def rotate_secret(name: str, *, keep_old: timedelta = KEEP_OLD) -> Steps[tuple[Secret, Webhook]]:
    """Give a webhook a new secret, and return it with the changed webhook.

    Until the end of ``keep_old``, requests are signed with both secrets.
    """
    secret, box = new_secret(), SecretBox.from_environment()
    return in_transaction(_rotate(name, secret, box, keep_old))


def _rotate(name: str, secret: Secret, box: SecretBox, keep_old: timedelta) -> Steps[tuple[Secret, Webhook]]:
    yield from query("select from usersync.subscriptions where name = %(name)s for update", name=name)
    webhook = Webhook.of((yield from subscriptions.stored(name)))
    until = datetime.now(UTC) + keep_old
    # Encrypted again, so that a key that is no longer the first one can be removed after a rotation.
    old = [StoredSecret(box.encrypt_again(each.encrypted), until) for each in webhook.secrets[:1] if keep_old]
    rotated = Webhook(webhook.endpoint, webhook.format_name, (StoredSecret(box.encrypt(secret)), *old))
    yield from query_row(
        "update usersync.subscriptions set config = %(config)s where name = %(name)s returning name",
        name=name,
        config=json.dumps(rotated.config),
    )
    return secret, rotated


def set_url(name: str, url: str, *, allow_private: bool = False) -> Steps[None]:
    """Change the URL of a webhook. Its position, parked events and secrets stay.

    This database becomes its home. Raises ``ArgumentValueError`` before it runs a statement.
    """
    return in_transaction(_set_url(name, Endpoint(url, allow_private=allow_private)))


def _set_url(name: str, endpoint: Endpoint) -> Steps[None]:
    check_kind((yield from subscriptions.stored(name)), subscriptions.WEBHOOK)
    yield from query(
        "update usersync.subscriptions set config = config || %(config)s::jsonb, "
        f"{subscriptions.RELEASED}, home_cluster = {CLUSTER_SQL}, home_address = null where name = %(name)s",
        name=name,
        config=json.dumps({"url": endpoint.url, "allow_private": endpoint.allow_private}),
    )


def send_sample(subscription: Subscription) -> AttemptOutcome:
    """Send an event that is in no log, to see what the receiver answers. Blocks."""
    return asyncio.run(send_to(delivery_of(subscription)))
