"""An auth server that signs tokens as GoTrue does, and publishes its keys over HTTP."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

if TYPE_CHECKING:
    from uuid import UUID

JWKS_PATH = "/auth/v1/.well-known/jwks.json"
SECRET = "a-shared-secret-of-a-project-that-is-older-than-key-pairs"  # noqa: S105


class Key:
    """A key pair that tokens are signed with."""

    def __init__(self, algorithm: str = "ES256", key_id: str | None = None, bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.id = key_id or str(uuid4())
        if algorithm.startswith("ES"):
            curve = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[algorithm]
            self.private: Any = ec.generate_private_key(curve())
            written = ECAlgorithm.to_jwk(self.private.public_key())
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
            written = OKPAlgorithm.to_jwk(self.private.public_key())
        else:
            self.private = rsa.generate_private_key(65537, bits)
            written = RSAAlgorithm.to_jwk(self.private.public_key())
        #: As GoTrue publishes it.
        self.public = {
            **json.loads(written),
            "kid": self.id,
            "alg": algorithm,
            "use": "sig",
            "key_ops": ["verify"],
        }


class AuthServer:
    """``answer`` is the response to a request for the keys; None holds the request until the end."""

    def __init__(self) -> None:
        self.key = Key()
        self.published = [self.key.public]
        self.answer: tuple[int, str, bytes] | None = (200, "application/json", b"")
        self.requests = 0
        self._end = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @property
    def issuer(self) -> str:
        return f"{self.url}/auth/v1"

    def rotate(self) -> Key:
        """Sign with another key from now on; the old one stays published."""
        self.key = Key()
        self.published.append(self.key.public)
        return self.key

    def claims(self, user_id: UUID | None = None, **changed: Any) -> dict[str, Any]:
        """The claims of an access token of GoTrue, without those given as None."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": str(user_id or uuid4()),
            "aud": "authenticated",
            "exp": now + 3600,
            "iat": now,
            "email": "ada@example.com",
            "phone": "",
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {"email_verified": True},
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": str(uuid4()),
            "is_anonymous": False,
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, user_id: UUID | None = None, *, key: Key | None = None, **changed: Any) -> str:
        signer = key or self.key
        claims = self.claims(user_id, **changed)
        return jwt.encode(claims, signer.private, signer.algorithm, headers={"kid": signer.id})

    def shared_token(self, user_id: UUID | None = None, *, secret: str = SECRET, **changed: Any) -> str:
        """A token of a project that signs with a shared secret; on the platform it has a key id, too."""
        claims = self.claims(user_id, **changed)
        return jwt.encode(claims, secret, "HS256", headers={"kid": "k3YsXyZ"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests += 1
                answer = server.answer
                if answer is None:
                    server._end.wait(60)
                    return
                status, kind, content = answer
                if not content:
                    content = json.dumps({"keys": server.published}).encode()
                status = status if self.path == JWKS_PATH else 404
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if 300 <= status < 400:
                    self.send_header("Location", f"{server.url}/elsewhere")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Log nothing into the test's output."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
