"""The requests that are tried: every kind of sign-up, and every kind of change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from usersync.gotrue.session import fresh_phone

if TYPE_CHECKING:
    from usersync.canary.session import CanarySession

#: What an identity provider tells of everybody, and sign-up forms mostly send.
_DATA = {"full_name": "usersync canary", "name": "usersync canary"}


@dataclass(frozen=True)
class Bird:
    """One of the canary's users. Nobody can take the address for a person's, and no mail reaches it."""

    id: UUID
    email: str


def hatch() -> Bird:
    user_id = uuid4()
    return Bird(user_id, f"usersync-canary+{user_id}@example.invalid")


Act = Callable[["CanarySession", Bird], object]


@dataclass(frozen=True)
class Step:
    """One request. ``new`` comes as a user of the name ``user``; the others are of one who is there."""

    name: str
    user: str
    act: Act
    new: bool = False
    #: Whose address the new user has.
    address_of: str | None = None
    #: The request without which this one would be another.
    after: str | None = None


def _other(bird: Bird) -> str:
    return bird.email.replace("+", "+other-", 1)


def _sign_up(auth: CanarySession, bird: Bird) -> UUID:
    return auth.sign_up_email(bird.email, data=_DATA, autoconfirm=False, user_id=bird.id)


def _again(auth: CanarySession, bird: Bird) -> UUID:
    return auth.sign_up_again(bird.email, data=_DATA, user_id=bird.id)


STEPS: tuple[Step, ...] = (
    Step("sign-up by e-mail", "email", _sign_up, new=True),
    Step("confirmation", "email", lambda auth, bird: auth.confirm(bird.id)),
    Step("sign-in", "email", lambda auth, bird: auth.sign_in(bird.id)),
    Step("token refresh", "email", lambda auth, bird: auth.refresh_token(bird.id)),
    Step("change of metadata", "email", lambda auth, bird: auth.update_user_metadata(bird.id, name="canary")),
    Step("change of e-mail", "email", lambda auth, bird: auth.change_email(bird.id, _other(bird))),
    Step("change of phone", "email", lambda auth, bird: auth.change_phone(bird.id, fresh_phone())),
    Step("ban", "email", lambda auth, bird: auth.ban(bird.id, timedelta(days=1))),
    Step("lifting the ban", "email", lambda auth, bird: auth.unban(bird.id)),
    Step("soft delete", "email", lambda auth, bird: auth.soft_delete(bird.id)),
    Step(
        "sign-up again after a soft delete",
        "again",
        _again,
        new=True,
        address_of="email",
        after="soft delete",
    ),
    Step(
        "sign-up by phone",
        "phone",
        lambda auth, bird: auth.sign_up_phone(fresh_phone(), data=_DATA, user_id=bird.id),
        new=True,
    ),
    Step(
        "sign-up by OAuth",
        "oauth",
        lambda auth, bird: auth.sign_up_oauth(email=bird.email, claims=_DATA, user_id=bird.id),
        new=True,
    ),
    Step("sign-in by OAuth", "oauth", lambda auth, bird: auth.sign_in_oauth(bird.id)),
    Step(
        "sign-up by SSO with an address that another user has",
        "sso",
        lambda auth, bird: auth.sign_up_sso(bird.email, claims=_DATA, user_id=bird.id),
        new=True,
        address_of="oauth",
    ),
    Step(
        "anonymous sign-up", "anonymous", lambda auth, bird: auth.sign_up_anonymous(user_id=bird.id), new=True
    ),
    Step(
        "from anonymous to permanent",
        "anonymous",
        lambda auth, bird: auth.make_permanent(bird.id, bird.email),
    ),
    Step("invitation", "invited", lambda auth, bird: auth.invite(bird.email, user_id=bird.id), new=True),
    Step(
        "creation by an administrator",
        "created",
        lambda auth, bird: auth.admin_create(bird.email, user_metadata=_DATA, user_id=bird.id),
        new=True,
    ),
    Step("hard delete", "created", lambda auth, bird: auth.hard_delete(bird.id)),
    Step(
        "sign-up again after a hard delete",
        "returned",
        _again,
        new=True,
        address_of="created",
        after="hard delete",
    ),
)
