"""The part of the auth server's admin API that lists users, reimplemented from the source of supabase/auth.

It reads the real ``auth.users`` table. It lists users by ``created_at``, newest first, and only users of the
nil instance and the audience ``authenticated``. Pages have numbers and the headers ``X-Total-Count`` and
``Link``. With ``cursors``, a request without a page number gets pages by cursor.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.testing import SupabaseDatabase

NIL = UUID(int=0)

_LISTED = "instance_id = %(nil)s and aud = 'authenticated'"


@dataclass
class AdminApi:
    """Answers requests from one database. ``between`` is called before each page except the first."""

    database: SupabaseDatabase
    cursors: bool = False
    with_headers: bool = True
    between: Callable[[], Any] = lambda: None
    asked: list[str] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if not headers.get("authorization", "").startswith("Bearer "):
            return self._json(
                401,
                {
                    "code": 401,
                    "error_code": "no_authorization",
                    "msg": "This endpoint requires a Bearer token",
                },
            )
        self.asked.append(path)
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path != "/admin/users":
            return self._one(parts.path.rpartition("/")[2])
        if query.get("page", "1") != "1" or "cursor" in query:
            self.between()
        return self._by_cursor(query) if self.cursors and "page" not in query else self._by_number(query)

    def _by_number(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        page, size = int(query.get("page", 1)), int(query.get("per_page", 50))
        total = self._rows(f"select count(*) as total from auth.users where {_LISTED}")[0]["total"]
        rows = self._rows(
            f"select * from auth.users where {_LISTED} order by created_at desc "
            "limit %(size)s offset %(offset)s",
            size=size,
            offset=(page - 1) * size,
        )
        last = -(-total // size)
        links = [f'</admin/users?page={page + 1}&per_page={size}>; rel="next", '] if last > page else []
        links.append(f'</admin/users?page={last}&per_page={size}>; rel="last"')
        headers = {"Link": "".join(links), "X-Total-Count": str(total)} if self.with_headers else {}
        return self._json(200, {"users": [_as_json(row) for row in rows], "aud": "authenticated"}, **headers)

    def _by_cursor(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        size = min(int(query.get("limit", 50)), 1000)
        after = json.loads(base64.urlsafe_b64decode(query["cursor"] + "==")) if "cursor" in query else None
        place = "and (created_at, id) < (%(created_at)s::timestamptz, %(id)s::uuid)" if after else ""
        rows = self._rows(
            f"select * from auth.users where {_LISTED} {place} "
            "order by created_at desc, id desc limit %(size)s",
            size=size + 1,
            **(after or {}),
        )
        rows, more = rows[:size], len(rows) > size
        body: dict[str, Any] = {
            "users": [_as_json(row) for row in rows],
            "aud": "authenticated",
            "pagination": {"has_more": more},
        }
        if more:
            token = json.dumps({"created_at": rows[-1]["created_at"].isoformat(), "id": str(rows[-1]["id"])})
            body["pagination"]["next_cursor"] = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        return self._json(200, body)

    def _one(self, user_id: str) -> tuple[int, dict[str, str], bytes]:
        rows = self._rows("select * from auth.users where instance_id = %(nil)s and id = %(id)s", id=user_id)
        if not rows:
            return self._json(404, {"code": 404, "error_code": "user_not_found", "msg": "User not found"})
        return self._json(200, _as_json(rows[0]))

    def _rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        with self.database.connect("supabase_auth_admin") as connection:
            return connection.cursor(row_factory=dict_row).execute(sql, {"nil": NIL, **params}).fetchall()

    def _json(self, status: int, body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return (
            status,
            {"Content-Type": "application/json", **named},
            json.dumps(body, default=_plain).encode(),
        )


_TIMES = (
    *("email_confirmed_at", "phone_confirmed_at", "confirmed_at", "invited_at", "last_sign_in_at"),
    *("banned_until", "deleted_at"),
)


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of a row, as GoTrue returns it: "" for a missing e-mail or phone, no key for a missing
    time, and no secrets.
    """
    body = {name: row[name] or "" for name in ("aud", "role", "email", "phone")}
    same = {name: row[name] for name in ("id", "is_anonymous", "created_at", "updated_at")}
    metadata = {"app_metadata": row["raw_app_meta_data"], "user_metadata": row["raw_user_meta_data"]}
    times = {name: row[name] for name in _TIMES if row[name] is not None}
    return body | same | metadata | {"identities": []} | times


def _plain(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
