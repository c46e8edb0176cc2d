"""Parses replies: an answer, an error of the database, or an error of a gateway or a proxy."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from html import unescape
from typing import TYPE_CHECKING, Any, Self

from usersync.errors import (
    ApiKeyError,
    ConnectionFailedError,
    DatabaseError,
    NeedsDatabaseError,
    NotInstalledError,
    PrivilegeMissingError,
    UsersyncError,
    error_for_sqlstate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# With SQLSTATE PT429, a function of the project has PostgREST answer with HTTP 429.
_SQLSTATE = re.compile(r"(?!PT\d)[0-9A-Z]{5}")
_MOST_SHOWN = 300

#: SQLSTATEs worth a retry: the database is starting, stopping, out of connections or in conflict.
_PASSING = re.compile(r"08|53|57P0|40")

#: Hints for HTTP status codes, including those that only gateways use.
_STATUS_HINTS = {
    402: "The organization's quota is used up: see Billing in the dashboard.",
    404: "Check that the URL is that of a Supabase project, without a path.",
    413: "Send less data per request.",
    429: "The gateway limits the rate of requests: ask less often, or connect to the database.",
    522: "The project may be paused or starting: see the dashboard.",
    540: "The project is paused: restore it in the dashboard.",
}

_LATER = "Try again in a moment. If it persists, check the project's health in the dashboard."
_ELSEWHERE = "Check the project's URL, and whether a proxy answers instead."

_TIME_LIMIT = (
    "The role's statement_timeout ends longer statements (8 s on Supabase). Connect to the database for "
    "this (SUPABASE_DB_URL), or raise the limit: alter role service_role set statement_timeout = '60s'; "
    "notify pgrst, 'reload config';"
)


@dataclass(frozen=True)
class Reply:
    """A complete reply."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class NoReply:
    """There was no reply, or an incomplete one."""

    reason: str
    #: Whether a retry may succeed.
    passing: bool = True
    #: Whether the time limit was exceeded.
    slow: bool = False


class Refusal(Exception):  # noqa: N818 - not an error yet: it may be tried again
    """A request without an answer. ``error`` is the error to raise; ``again`` says whether to retry."""

    def __init__(
        self,
        error: UsersyncError,
        *,
        again: bool = False,
        wait: float | None = None,
        status: int | None = None,
        code: str = "",
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        #: The seconds that the server asks the client to wait.
        self.wait = wait
        #: The HTTP status; None without a reply.
        self.status = status
        #: PostgREST's error code; empty for other replies.
        self.code = code

    @classmethod
    def unreachable(cls, host: str, reason: str, *, passing: bool) -> Self:
        """The error for a request without a reply."""
        hint = next(
            (hint for mark, hint in _CONNECTION_HINTS if mark in reason), "Check the URL and the network."
        )
        return cls(ConnectionFailedError(f"no answer from {host}: {reason}", hint=hint), again=passing)


_CONNECTION_HINTS = (
    (
        "CERTIFICATE",
        "The certificate may belong to a proxy. SSL_CERT_FILE names the trusted certificate authorities.",
    ),
    ("in time", "Check that the project is not paused, and for a firewall or a proxy."),
    ("name", "Check the host name, and that this machine has DNS."),
    ("refused", "Check that the server is running, and the port."),
    ("proxy", "Check HTTPS_PROXY and NO_PROXY in the environment."),
)


def read_answer(reply: Reply, host: str) -> Any:
    """The JSON that the function returned. Raises ``Refusal``."""
    if reply.status in {200, 204}:
        return _read_json(reply, host)
    raise refusal_of(reply, host)


def _read_json(reply: Reply, host: str) -> Any:
    if reply.status == 204 and not reply.body:  # noqa: PLR2004 - no content
        return None
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        pass
    # A truncated reply, or the page of a proxy. A retry is harmless.
    raise Refusal(
        ConnectionFailedError(
            f"{host} answered with {_described(reply)}, which is not the answer of a Data API",
            hint="Check for a proxy, a firewall or a sign-in page that answers instead.",
        ),
        again=True,
        status=reply.status,
    )


def refusal_of(reply: Reply, host: str) -> Refusal:
    """The ``Refusal`` for an unsuccessful reply."""
    said = _said(reply)
    code = _line(said.get("code") or "")
    message = _line(said.get("message") or said.get("msg") or said.get("error") or "")
    hint = _line(said.get("hint") or "") or None
    if _SQLSTATE.fullmatch(code):
        return _of_database(code, message or "refused", hint, reply, host)
    if code.startswith("PGRST"):
        found = _of_postgrest(code, message, host)
        if found is not None:
            return Refusal(found, status=reply.status, code=code)
    if 300 <= reply.status < 400:  # noqa: PLR2004
        return Refusal(_redirected(reply, host), status=reply.status)
    if reply.status in {401, 403}:
        return Refusal(_key_refused(host, message or _described(reply)), status=reply.status)
    passing = reply.status in {408, 425, 429} or reply.status >= 500  # noqa: PLR2004
    return Refusal(
        ConnectionFailedError(
            f"{host} answered with {_described(reply)}" + (f": {message}" if message else ""),
            hint=_STATUS_HINTS.get(reply.status) or hint or (_LATER if passing else _ELSEWHERE),
        ),
        again=passing and reply.status not in _STATUS_HINTS.keys() - {429, 522},
        wait=_retry_after(reply),
        status=reply.status,
    )


def _said(reply: Reply) -> dict[str, Any]:
    try:
        said = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _of_database(code: str, message: str, hint: str | None, reply: Reply, host: str) -> Refusal:
    if _PASSING.match(code):
        error: UsersyncError = ConnectionFailedError(
            f"the database behind {host} takes nothing at the moment: {message} (SQLSTATE {code})",
            hint=hint or "Try again in a moment.",
        )
        return Refusal(error, again=True, wait=_retry_after(reply), status=reply.status)
    error = error_for_sqlstate(code, message, _TIME_LIMIT if code == "57014" else hint)
    if isinstance(error, PrivilegeMissingError):
        error = PrivilegeMissingError(
            str(error),
            hint="Only service_role may call usersync's functions. Is it this project's key? Else: usersync "
            "apply",
            sqlstate=error.sqlstate,
        )
    return Refusal(error, status=reply.status)


def _of_postgrest(code: str, message: str, host: str) -> UsersyncError | None:
    """PostgREST's errors; None for temporary ones (PGRST000 to 003: no connection, no schema yet)."""
    if code == "PGRST202":
        return NotInstalledError(
            f"usersync is not installed behind {host} ({message})",
            hint="Run: usersync apply, which needs the database's address (SUPABASE_DB_URL). If that was "
            "done just now, have the Data API look again: notify pgrst, 'reload schema';",
        )
    if code == "PGRST106":
        return NeedsDatabaseError(
            f"the Data API of {host} does not serve the schema public ({message})",
            hint="Add it to the exposed schemas, or connect to the database (SUPABASE_DB_URL).",
        )
    if code.startswith("PGRST3"):
        return _key_refused(host, message)
    if code in {"PGRST000", "PGRST001", "PGRST002", "PGRST003"}:
        return None
    return DatabaseError(f"the Data API of {host} refuses the call: {message} ({code})", sqlstate=None)


def _key_refused(host: str, message: str) -> ApiKeyError:
    return ApiKeyError(
        f"{host} refuses the key: {message}",
        hint="Was it revoked, replaced, or is it another project's? Project settings, API keys.",
    )


def _redirected(reply: Reply, host: str) -> ConnectionFailedError:
    target = re.match(r"https?://([\w.:-]+)", reply.headers.get("location", ""), re.ASCII)
    onward = f" to {target[1]}" if target else ""
    return ConnectionFailedError(
        f"{host} sends us on{onward} (HTTP {reply.status}), and the key does not go along",
        hint="Set SUPABASE_URL to where the Data API really is.",
    )


def _described(reply: Reply) -> str:
    """``HTTP 503``, and the title of a web page."""
    title = re.search(rb"<title[^>]*>(.{1,200}?)</title>", reply.body[:20_000], re.IGNORECASE | re.DOTALL)
    name = f"HTTP {reply.status}"
    if title:
        return f'{name} and a web page, "{_line(unescape(title[1].decode("utf-8", "replace")))}"'
    if reply.body.lstrip()[:1] == b"<":
        return f"{name} and a web page"
    return name if reply.body else f"{name} and nothing"


def _line(text: object) -> str:
    """The text as one line of printable characters, shortened."""
    clean = "".join(each if each.isprintable() else " " for each in str(text)[: 4 * _MOST_SHOWN])
    return " ".join(clean.split())[:_MOST_SHOWN]


def _retry_after(reply: Reply) -> float | None:
    """The seconds of ``Retry-After``, which is a number or a date."""
    text = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
