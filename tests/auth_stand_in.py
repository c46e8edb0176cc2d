"""A replacement of the auth server's HTTP API that sends the same SQL statements as the real one.

The real auth server is a Go program that no package registry offers. This server has the part of the API that
the live suite calls, so that the live suite itself can be tested.
"""

from __future__ import annotations

import json
import re
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from postgrest_server import mint
from usersync.gotrue.errors import GoTrueError
from usersync.testing import GoTrue

if TYPE_CHECKING:
    from usersync.testing import SupabaseDatabase


class AuthServer:
    """Serves until the block ends. ``phone``: whether sign-ups with a phone number are enabled."""

    def __init__(self, database: SupabaseDatabase, service_key: str, *, phone: bool = True) -> None:
        self._dsn = database.dsn("supabase_auth_admin")
        self._service_key = service_key
        self._phone = phone
        self._passwords: dict[str, tuple[UUID, str]] = {}

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                status, data = server.answer(self.command, self.path, dict(self.headers), body or {})
                content = json.dumps(data, default=str).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names are http.server's

            def log_message(self, *_: object) -> None:
                pass

        self._auth = GoTrue(self._dsn)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._auth.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """The status and the body of the answer to one request."""
        if (
            path.startswith(("/admin/", "/invite"))
            and headers.get("Authorization") != f"Bearer {self._service_key}"
        ):
            return 403, {"error_code": "not_admin", "msg": "User not allowed"}
        user = re.fullmatch(r"/admin/users/([0-9a-f-]{36})", path)
        name = f"{method} {'/admin/users/ID' if user else path}"
        serve = _ROUTES.get(name)
        if serve is None:
            return 404, {"error_code": "not_found", "msg": f"no such path: {name}"}
        try:
            with self._lock:
                return 200, serve(self, body, UUID(user[1])) if user else serve(self, body)
        except GoTrueError as error:
            return error.status, {"error_code": error.code, "msg": error.message}

    def _settings(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"external": {"email": True, "phone": self._phone, "anonymous_users": True}}

    def _sign_up(self, body: dict[str, Any]) -> dict[str, Any]:
        data = body.get("data") or {}
        if email := body.get("email"):
            return self._session(self._with_password(self._auth.sign_up_email(email, data=data), body))
        if phone := body.get("phone"):
            if not self._phone:
                raise GoTrueError(400, "phone_provider_disabled", "Phone signups are disabled")
            return self._session(self._with_password(self._auth.sign_up_phone(phone, data=data), body))
        return self._session(self._auth.sign_up_anonymous(data=data))

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        made = self._auth.admin_create(
            body.get("email"),
            phone=body.get("phone"),
            user_metadata=body.get("user_metadata"),
            app_metadata=body.get("app_metadata"),
            confirm=bool(body.get("email_confirm") or body.get("phone_confirm")),
        )
        return self._user(self._with_password(made, body))

    def _link(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["type"] == "invite":
            return self._user(self._auth.invite(body["email"]))
        return self._user(self._auth.sign_up_email(body["email"], autoconfirm=False))

    def _invite(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._user(self._auth.invite(body["email"], data=body.get("data")))

    def _token(self, body: dict[str, Any]) -> dict[str, Any]:
        user_id, password = self._passwords.get(body.get("email", ""), (None, None))
        if user_id is None or password != body["password"]:
            raise GoTrueError(400, "invalid_credentials", "Invalid login credentials")
        return self._session(self._auth.sign_in(user_id))

    def _refresh(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._session(self._auth.refresh_token(UUID(body["refresh_token"])))

    def _update(self, body: dict[str, Any], user_id: UUID) -> dict[str, Any]:
        if "email" in body:
            self._auth.change_email(user_id, body["email"])
        if "user_metadata" in body:
            self._auth.update_user_metadata(user_id, **body["user_metadata"])
        if duration := body.get("ban_duration"):
            if duration == "none":
                self._auth.unban(user_id)
            else:
                self._auth.ban(user_id, timedelta(hours=int(duration.removesuffix("h"))))
        return self._user(user_id)

    def _delete(self, body: dict[str, Any], user_id: UUID) -> dict[str, Any]:
        (self._auth.soft_delete if body.get("should_soft_delete") else self._auth.hard_delete)(user_id)
        return {}

    def _with_password(self, user_id: UUID, body: dict[str, Any]) -> UUID:
        if body.get("email"):
            self._passwords[body["email"]] = (user_id, body.get("password", ""))
        return user_id

    def _session(self, user_id: UUID) -> dict[str, Any]:
        token = mint(role="authenticated", sub=str(user_id), aud="authenticated")
        return {"access_token": token, "refresh_token": str(user_id), "user": self._user(user_id)}

    def _user(self, user_id: UUID) -> dict[str, Any]:
        row = self._auth.user(user_id)
        metadata = {"user_metadata": row["raw_user_meta_data"], "app_metadata": row["raw_app_meta_data"]}
        return {"id": user_id, "email": row["email"] or "", "phone": row["phone"] or "", **metadata}


_ROUTES: dict[str, Any] = {
    "GET /settings": AuthServer._settings,
    "POST /signup": AuthServer._sign_up,
    "POST /token?grant_type=password": AuthServer._token,
    "POST /token?grant_type=refresh_token": AuthServer._refresh,
    "POST /invite": AuthServer._invite,
    "POST /admin/users": AuthServer._create,
    "POST /admin/generate_link": AuthServer._link,
    "PUT /admin/users/ID": AuthServer._update,
    "DELETE /admin/users/ID": AuthServer._delete,
}
