"""The flows of a trial: every kind of sign-up, every kind of change, and both deletions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from usersync.gotrue.session import fresh_phone

if TYPE_CHECKING:
    from usersync.schema.trial.observation import FlowKind
    from usersync.schema.trial.session import TrialSession


@dataclass(frozen=True)
class Person:
    """A test user. The address belongs to no person, and receives no mail."""

    id: UUID
    #: Part of the address and of all metadata values, so that the source of a value is visible.
    token: str
    email: str
    phone: str
    data: Mapping[str, Any] = field(default_factory=dict)
    app_data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def other_email(self) -> str:
        return self.email.replace("+", "+other-", 1)


@dataclass(frozen=True)
class Keys:
    """The metadata keys of a test user."""

    user: tuple[str, ...] = ()
    app: tuple[str, ...] = ()


def make_person(keys: Keys, *, email: str | None = None) -> Person:
    """Create a test user with these metadata keys."""
    user_id, token = uuid4(), secrets.token_hex(4)
    return Person(
        user_id,
        token,
        email or f"usersync-trial+{token}@example.invalid",
        fresh_phone(),
        {key: _marker(key, f"u{token}{n:02}") for n, key in enumerate(keys.user)},
        {key: _marker(key, f"a{token}{n:02}") for n, key in enumerate(keys.app)},
    )


def _marker(key: str, name: str) -> str:
    looks_like_url = any(word in key.lower() for word in ("url", "picture", "avatar", "image", "website"))
    return f"https://example.invalid/{name}" if looks_like_url else name


Act = Callable[["TrialSession", Person], object]


@dataclass(frozen=True)
class Flow:
    """One request, and the requests that it requires."""

    name: str
    kind: FlowKind
    act: Act
    #: The flow that the same user completes before.
    after: str | None = None
    #: The flow that another user with the same address completes before.
    address_of: str | None = None
    #: Columns of auth.users that this flow requires. An older auth server has neither.
    needs: tuple[str, ...] = ()


def _sign_up(auth: TrialSession, who: Person, *, autoconfirm: bool) -> UUID:
    return auth.sign_up_email(who.email, data=who.data, autoconfirm=autoconfirm, user_id=who.id)


def _sign_up_by_phone(auth: TrialSession, who: Person, *, autoconfirm: bool) -> UUID:
    return auth.sign_up_phone(who.phone, data=who.data, autoconfirm=autoconfirm, user_id=who.id)


def _oauth(auth: TrialSession, who: Person, *, shares_email: bool) -> UUID:
    return auth.sign_up_oauth(
        email=who.email, name=None, claims=who.data, shares_email=shares_email, user_id=who.id
    )


def _created(auth: TrialSession, who: Person) -> UUID:
    return auth.admin_create(
        who.email, user_metadata=who.data, app_metadata=who.app_data or None, user_id=who.id
    )


def _change_app_metadata(auth: TrialSession, who: Person) -> UUID:
    return auth.update_app_metadata(who.id, **(who.app_data or {"usersync_trial": who.token}))


def _change_metadata(auth: TrialSession, who: Person) -> UUID:
    changed = {key: f"{value}x" for key, value in who.data.items()}
    return auth.update_user_metadata(who.id, **(changed or {"usersync_trial": who.token}))


_ANONYMOUS = ("is_anonymous",)
_SSO = ("is_sso_user",)

_SIGN_UPS = (
    Flow("sign-up by e-mail", "sign-up", lambda a, p: _sign_up(a, p, autoconfirm=False)),
    Flow("sign-up by e-mail with autoconfirm", "sign-up", lambda a, p: _sign_up(a, p, autoconfirm=True)),
    Flow("sign-up by phone", "sign-up", lambda a, p: _sign_up_by_phone(a, p, autoconfirm=False)),
    Flow(
        "sign-up by phone with autoconfirm", "sign-up", lambda a, p: _sign_up_by_phone(a, p, autoconfirm=True)
    ),
    Flow("sign-up by OAuth", "sign-up", lambda a, p: _oauth(a, p, shares_email=True)),
    Flow("sign-up by OAuth without an address", "sign-up", lambda a, p: _oauth(a, p, shares_email=False)),
    Flow(
        "sign-up by SSO",
        "sign-up",
        lambda a, p: a.sign_up_sso(p.email, claims=p.data, user_id=p.id),
        needs=_SSO,
    ),
    Flow(
        "sign-up by SSO with an address that another user has",
        "sign-up",
        lambda a, p: a.sign_up_sso(p.email, claims=p.data, user_id=p.id),
        address_of="sign-up by OAuth",
        needs=_SSO,
    ),
    Flow("sign-up by wallet (Web3)", "sign-up", lambda a, p: a.sign_up_web3(user_id=p.id)),
    Flow(
        "anonymous sign-up",
        "sign-up",
        lambda a, p: a.sign_up_anonymous(data=p.data, user_id=p.id),
        needs=_ANONYMOUS,
    ),
    Flow("invitation", "sign-up", lambda a, p: a.invite(p.email, data=p.data, user_id=p.id)),
    Flow("creation by an administrator", "sign-up", _created),
)

_CHANGES = (
    Flow("confirmation", "change", lambda a, p: a.confirm(p.id), after="sign-up by e-mail"),
    Flow("confirmation by phone", "change", lambda a, p: a.confirm(p.id), after="sign-up by phone"),
    Flow("acceptance of an invitation", "change", lambda a, p: a.confirm(p.id), after="invitation"),
    Flow("sign-in", "change", lambda a, p: a.sign_in(p.id), after="sign-up by e-mail with autoconfirm"),
    Flow("sign-in by OAuth", "change", lambda a, p: a.sign_in_oauth(p.id), after="sign-up by OAuth"),
    Flow(
        "token refresh",
        "change",
        lambda a, p: a.refresh_token(p.id),
        after="sign-up by e-mail with autoconfirm",
    ),
    Flow("change of metadata", "change", _change_metadata, after="sign-up by e-mail with autoconfirm"),
    Flow(
        "change of app metadata", "change", _change_app_metadata, after="sign-up by e-mail with autoconfirm"
    ),
    Flow(
        "change of e-mail",
        "change",
        lambda a, p: a.change_email(p.id, p.other_email),
        after="sign-up by e-mail with autoconfirm",
    ),
    Flow(
        "change of phone",
        "change",
        lambda a, p: a.change_phone(p.id, p.phone),
        after="sign-up by e-mail with autoconfirm",
    ),
    Flow(
        "ban",
        "change",
        lambda a, p: a.ban(p.id, timedelta(days=1)),
        after="sign-up by e-mail with autoconfirm",
        needs=("banned_until",),
    ),
    Flow("lifting the ban", "change", lambda a, p: a.unban(p.id), after="ban", needs=("banned_until",)),
    Flow(
        "linking of an identity",
        "change",
        lambda a, p: a.link_identity(p.id),
        after="sign-up by e-mail with autoconfirm",
    ),
    Flow(
        "from anonymous to permanent",
        "change",
        lambda a, p: a.make_permanent(p.id, p.email),
        after="anonymous sign-up",
        needs=_ANONYMOUS,
    ),
    Flow(
        "from anonymous to permanent by linking",
        "change",
        lambda a, p: a.link_identity(p.id, email=p.email),
        after="anonymous sign-up",
        needs=_ANONYMOUS,
    ),
)

_DELETIONS = (
    Flow(
        "soft deletion",
        "soft deletion",
        lambda a, p: a.soft_delete(p.id),
        after="sign-up by e-mail with autoconfirm",
        needs=("deleted_at",),
    ),
    Flow(
        "hard deletion",
        "hard deletion",
        lambda a, p: a.hard_delete(p.id),
        after="sign-up by e-mail with autoconfirm",
    ),
    Flow(
        "sign-up again after a soft deletion",
        "sign-up",
        lambda a, p: _sign_up(a, p, autoconfirm=False),
        address_of="soft deletion",
        needs=("deleted_at",),
    ),
    Flow(
        "sign-up again after a hard deletion",
        "sign-up",
        lambda a, p: _sign_up(a, p, autoconfirm=False),
        address_of="hard deletion",
    ),
)

#: By name, in the order of the trial.
FLOWS: Mapping[str, Flow] = {flow.name: flow for flow in (*_SIGN_UPS, *_CHANGES, *_DELETIONS)}


def flows_before(flow: Flow) -> tuple[Flow, ...]:
    """The flows of the same user before this flow, in order."""
    if flow.after is None:
        return ()
    previous = FLOWS[flow.after]
    return *flows_before(previous), previous


def events_of(flow: Flow) -> frozenset[str]:
    """The events on auth.users that a flow and the requests before it cause."""
    deletes = flow.kind == "hard deletion" or flow.address_of == "hard deletion"
    return frozenset({"insert", "update", "delete"} if deletes else {"insert", "update"})
