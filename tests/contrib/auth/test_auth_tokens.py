"""Tokens that are accepted, and tokens that are refused with a reason."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
import traceback
from contextlib import suppress
from uuid import UUID, uuid4

import jwt
import pytest
from auth_server import SECRET, AuthServer, Key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from usersync.contrib.auth import AsyncTokenVerifier, InvalidTokenError, TokenVerifier, VerifiedUser
from usersync.errors import SettingsError


def refusal(verify, token) -> str:
    """The reason why a token is refused. Checks that the error does not contain the token."""
    with pytest.raises(InvalidTokenError) as caught:
        verify(token)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value.hint)
    for part in str(token).split("."):
        assert len(part) < 8 or part not in shown
    assert caught.value.__cause__ is None
    return str(caught.value).removeprefix("the token is refused: ")


def b64(data: object) -> str:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def test_a_valid_token_gives_its_user(auth_server, verify):
    user_id, session_id = uuid4(), str(uuid4())
    user = verify(auth_server.token(user_id, session_id=session_id))
    assert user.id == user_id
    assert (user.role, user.aal, user.session_id) == ("authenticated", "aal1", session_id)
    assert (user.email, user.phone, user.is_anonymous) == ("ada@example.com", None, False)
    assert abs(user.expires_at.timestamp() - time.time() - 3600) < 60
    assert user.claims["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert "ada@example.com" not in repr(user)


def test_a_token_of_an_anonymous_user_is_accepted(auth_server, verify):
    assert verify(auth_server.token(is_anonymous=True)).is_anonymous
    assert not verify(auth_server.token(is_anonymous=None)).is_anonymous
    assert not verify(auth_server.token(is_anonymous="true")).is_anonymous


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "RS256", "RS512", "EdDSA"])
def test_tokens_of_every_algorithm_of_the_auth_server_are_accepted(auth_server, algorithm):
    key = Key(algorithm)
    auth_server.published = [key.public]
    verify = TokenVerifier(auth_server.url).verify
    assert isinstance(verify(auth_server.token(key=key)), VerifiedUser)


def test_a_key_without_alg_has_the_algorithm_of_its_type(auth_server, verify):
    del auth_server.key.public["alg"]
    assert isinstance(verify(auth_server.token()), VerifiedUser)


def test_tokens_signed_with_a_shared_secret_are_accepted(auth_server, make_verifier):
    verify = make_verifier(secret=SECRET + "\n")
    user_id = uuid4()
    assert verify(auth_server.shared_token(user_id)).id == user_id
    assert refusal(verify, auth_server.shared_token(secret=SECRET[::-1])).startswith("its signature")
    assert auth_server.requests == 0
    assert verify(auth_server.token(user_id)).id == user_id


def test_the_leeway_allows_small_differences_of_clocks(auth_server, make_verifier):
    now = int(time.time())
    verify = make_verifier(leeway=60)
    assert verify(auth_server.token(exp=now - 20))
    assert verify(auth_server.token(iat=now + 20))
    assert refusal(verify, auth_server.token(exp=now - 120)) == "it has expired"
    assert refusal(verify, auth_server.token(iat=now + 600)).startswith("it is not valid yet")
    assert refusal(verify, auth_server.token(nbf=now + 600)).startswith("it is not valid yet")


def test_the_default_leeway_is_small(auth_server, verify):
    assert refusal(verify, auth_server.token(exp=int(time.time()) - 30)) == "it has expired"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": "anon"}, "it is for another audience"),
        ({"aud": ["a", "b"]}, "it is for another audience"),
        ({"aud": 7}, "it is for another audience"),
        ({"aud": None}, "it lacks the claim aud"),
        ({"iss": "https://other.supabase.co/auth/v1"}, "it is from another issuer"),
        ({"iss": "supabase"}, "it is from another issuer"),
        ({"iss": None}, "it lacks the claim iss"),
        ({"exp": None}, "it lacks the claim exp"),
        ({"exp": "soon"}, "it cannot be read"),
        ({"exp": 1e300}, "it names no user"),
        ({"sub": None}, "it lacks the claim sub"),
        ({"sub": "ada"}, "it names no user"),
        ({"sub": ""}, "it names no user"),
        ({"role": None}, "it lacks the claim role"),
        ({"role": ""}, "its role is not accepted"),
        ({"role": ["authenticated"]}, "its role is not accepted"),
        ({"role": "service_role"}, "its role is not accepted"),
        ({"role": "anon"}, "its role is not accepted"),
    ],
)
def test_invalid_claims_are_refused(auth_server, verify, changed, reason):
    assert refusal(verify, auth_server.token(**changed)) == reason


def test_an_audience_may_be_a_list(auth_server, verify):
    assert verify(auth_server.token(aud=["other", "authenticated"]))


def test_other_roles_are_accepted_if_the_application_allows_them(auth_server, make_verifier):
    verify = make_verifier(roles=["authenticated", "editor"])
    assert verify(auth_server.token(role="editor")).role == "editor"
    assert refusal(verify, auth_server.token(role="service_role"))


def test_an_api_key_is_not_a_user(auth_server, make_verifier):
    """The older anon and service keys are tokens signed with the project's secret."""
    verify = make_verifier(secret=SECRET)
    now = int(time.time())
    for role in ("anon", "service_role"):
        claims = {"iss": "supabase", "ref": "project", "role": role, "iat": now, "exp": now + 3600}
        assert refusal(verify, jwt.encode(claims, SECRET, "HS256"))


def test_a_token_of_another_project_is_refused(auth_server, verify):
    with AuthServer() as other:
        assert "does not publish" in refusal(verify, other.token())
        # The token of another project is refused even if both publish the key.
        auth_server.published.append(other.key.public)
        fresh = TokenVerifier(auth_server.url).verify
        assert refusal(fresh, other.token()) == "it is from another issuer"


def test_an_unsigned_token_is_refused(auth_server, verify):
    claims = auth_server.claims()
    unsigned = jwt.encode(claims, None, "none", headers={"kid": auth_server.key.id})
    assert refusal(verify, unsigned) == "its algorithm is not accepted"
    for name in ("None", "NONE", "nOnE"):
        token = f"{b64({'alg': name, 'kid': auth_server.key.id})}.{b64(claims)}."
        assert refusal(verify, token) == "its algorithm is not accepted"
    head, body, _ = auth_server.token().split(".")
    assert refusal(verify, f"{head}.{body}.") == "its signature does not match its key"
    assert refusal(verify, f"{head}.{body}") == "it is not a JSON Web Token of an auth server"


def test_a_token_signed_with_another_key_of_the_same_id_is_refused(auth_server, verify):
    thief = Key(key_id=auth_server.key.id)
    assert refusal(verify, auth_server.token(key=thief)) == "its signature does not match its key"


def test_claims_changed_after_signing_are_refused(auth_server, verify):
    head, _, signature = auth_server.token().split(".")
    token = f"{head}.{b64(auth_server.claims(uuid4()))}.{signature}"
    assert refusal(verify, token) == "its signature does not match its key"


@pytest.mark.parametrize("secret", [None, SECRET])
def test_hs256_with_the_public_key_as_secret_is_refused(auth_server, make_verifier, secret):
    """A known attack uses the public key as the secret of HS256."""
    verify = make_verifier(**({"secret": secret} if secret else {}))
    public = auth_server.key.private.public_key()
    for written in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(auth_server.key.public).encode(),
    ):
        head = b64({"alg": "HS256", "typ": "JWT", "kid": auth_server.key.id})
        signed = f"{head}.{b64(auth_server.claims())}"
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
            signed.encode(), written
        )
        assert refusal(verify, f"{signed}.{b64(signature)}")


def test_an_algorithm_that_does_not_match_the_key_is_refused(auth_server, verify):
    """A token whose algorithm differs from its key's is refused before its signature is checked."""
    rsa = Key("RS256")
    auth_server.published.append(rsa.public)
    claims = auth_server.claims()
    other = jwt.encode(claims, rsa.private, "RS512", headers={"kid": rsa.id})
    assert refusal(verify, other) == "its algorithm does not match its key"
    swapped = jwt.encode(claims, rsa.private, "RS256", headers={"kid": auth_server.key.id})
    assert refusal(verify, swapped) == "its algorithm does not match its key"
    padded = jwt.encode(claims, rsa.private, "PS256", headers={"kid": rsa.id})
    assert refusal(verify, padded) == "its algorithm is not accepted"


def test_a_key_inside_the_token_is_ignored(auth_server, verify):
    thief = Key()
    headers = {"kid": thief.id, "jwk": thief.public, "jku": "https://attacker.example/jwks.json"}
    token = jwt.encode(auth_server.claims(), thief.private, "ES256", headers=headers)
    assert "does not publish" in refusal(verify, token)


def test_a_critical_extension_is_refused(auth_server, verify):
    headers = {"kid": auth_server.key.id, "crit": ["exp"], "exp": 1}
    token = jwt.encode(auth_server.claims(), auth_server.key.private, "ES256", headers=headers)
    assert refusal(verify, token) == "it is not a JSON Web Token of an auth server"


def test_a_published_symmetric_key_is_not_used(auth_server, make_verifier):
    auth_server.published.append({"kty": "oct", "kid": "shared", "alg": "HS256", "k": b64(SECRET.encode())})
    token = jwt.encode(auth_server.claims(), SECRET, "HS256", headers={"kid": "shared"})
    assert "shared secret" in refusal(make_verifier(), token)


def test_a_weak_key_is_not_used(auth_server, verify):
    weak = Key("RS256", bits=1024)
    auth_server.published.append(weak.public)
    claims = auth_server.claims()
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = jwt.encode(claims, weak.private, "RS256", headers={"kid": weak.id})
    assert "does not publish" in refusal(verify, token)


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        " ",
        b"bytes",
        7,
        "not a token",
        "a.b.c",
        "..",
        "...." * 10,
        "\x00",
        "é.é.é",
        "\ud800.a.b",
        f"{b64(['HS256'])}.{b64({})}.x",
        f"{b64({'alg': ['ES256'], 'kid': 'a'})}.{b64({})}.{b64(b'x')}",
        f"{b64({'alg': 'ES256', 'kid': 7})}.{b64({})}.{b64(b'x')}",
        f"{b64({'alg': 'ES256'})}.{b64({})}.{b64(b'x')}",
        f"{b64({'kid': 'a'})}.{b64({})}.{b64(b'x')}",
        f"{b64(b'[' * 10_000)}.{b64({})}.{b64(b'x')}",
        f"{b64(b'{' + b'9' * 9_000 + b'}')}.{b64({})}.{b64(b'x')}",
        b64(b'{"alg": ' + b"9" * 6_000 + b"}") + f".{b64({})}.{b64(b'x')}",
        b64(b'{"alg": "ES256", "alg": "none"}') + f".{b64({})}.",
        f"{b64({'alg': 'ES256', 'kid': 'a', 'b64': False, 'crit': ['b64']})}..{b64(b'x')}",
    ],
    ids=range(22),
)
def test_invalid_texts_are_refused_as_tokens(auth_server, verify, token):
    assert refusal(verify, token)
    assert auth_server.requests == 0


def test_a_very_long_token_is_refused(auth_server, verify):
    big = auth_server.token(user_metadata={"x": "y" * 20_000})
    assert refusal(verify, big) == "it is larger than 16 KiB"
    assert refusal(verify, "a" * (64 << 20)) == "it is larger than 16 KiB"
    assert verify(auth_server.token(user_metadata={"x": "y" * 8_000}))


@settings(max_examples=200)
@given(data=st.data())
def test_a_single_changed_bit_is_refused(auth_server, data):
    verify = TokenVerifier(auth_server.url, secret=SECRET).verify
    token = auth_server.shared_token()
    # Two of the six bits of a signature's last character mean nothing.
    at = data.draw(st.integers(0, len(token) - 2))
    other = data.draw(st.characters(codec="ascii").filter(lambda each: each != token[at]))
    with pytest.raises(InvalidTokenError):
        verify(token[:at] + other + token[at + 1 :])


NAMES = st.sampled_from(
    ["alg", "kid", "typ", "crit", "iss", "aud", "sub", "exp", "iat", "nbf", "role", "aal"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
)
PART = st.binary(max_size=60).map(b64) | JSON.map(b64) | st.text(max_size=20)


@settings(max_examples=300)
@given(token=st.text() | st.builds("{}.{}.{}".format, PART, PART, PART))
def test_any_text_is_refused(auth_server, token):
    with pytest.raises(InvalidTokenError):
        TokenVerifier(auth_server.url, secret=SECRET).verify(token)


@settings(max_examples=300)
@given(
    changed=st.dictionaries(
        NAMES | st.sampled_from(["email", "app_metadata", "is_anonymous"]), JSON, max_size=4
    )
)
def test_claims_of_any_type_give_a_user_or_a_reason(auth_server, changed):
    """The signature is valid: a hook of the auth server may have changed the claims."""
    signed = f"{b64({'alg': 'HS256', 'typ': 'JWT'})}.{b64(auth_server.claims(None, **changed))}"
    token = f"{signed}.{b64(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))}"
    with suppress(InvalidTokenError):
        assert isinstance(TokenVerifier(auth_server.url, secret=SECRET).verify(token), VerifiedUser)


def test_no_part_of_a_token_is_logged(auth_server, verify, caplog):
    caplog.set_level(logging.DEBUG)
    token = auth_server.token(key=Key())
    refusal(verify, token)
    assert not any(part in caplog.text for part in token.split("."))


@pytest.mark.parametrize("kind", [TokenVerifier, AsyncTokenVerifier])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "requires url, or both"),
        ({"issuer": "https://a.example"}, "requires url, or both"),
        ({"url": "project.supabase.co"}, "url: not the URL"),
        ({"url": "ftp://project.supabase.co"}, "url: not the URL"),
        ({"url": "file:///etc/passwd"}, "url: not the URL"),
        ({"url": "https://"}, "url: not the URL"),
        ({"url": "https://[::1"}, "url: not the URL"),
        ({"url": "https://a:b@project.supabase.co"}, "url: not the URL"),
        ({"url": "https://project.supabase.co\n"}, "url: not the URL"),
        ({"url": "https://project.supabase.co", "jwks_url": "file:///x"}, "jwks_url: not the URL"),
        ({"secret": "short"}, "fewer than 32 bytes"),
        ({"secret": ""}, "fewer than 32 bytes"),
        ({"secret": "-----BEGIN PUBLIC KEY-----\nMFkw"}, "is a key in PEM"),
        ({"secret": '{"kty": "EC", "crv": "P-256"}'}, "is a JSON Web Key"),
        ({"secret": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"}, "is an SSH key"),
        ({"secret": "sb_secret_" + "x" * 40}, "is an API key"),
        ({"secret": "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.xxxx"}, "is an API key or a token"),
        ({"roles": "authenticated"}, "expected a list"),
    ],
)
def test_invalid_settings_of_a_verifier_raise(kind, options, words):
    url = {} if "url" in options or not options or "issuer" in options else {"url": "https://p.supabase.co"}
    with pytest.raises(SettingsError, match=words) as caught:
        kind(**url, **options)
    assert (options.get("secret") or "-----") not in str(caught.value)


def test_a_verifier_can_be_configured_by_the_environment(auth_server, tmp_path, monkeypatch):
    for name in ("SUPABASE_URL", "SUPABASE_JWT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="no SUPABASE_URL"):
        TokenVerifier.from_env(directory=tmp_path)
    (tmp_path / ".env.local").write_text(f"SUPABASE_URL={auth_server.url}/\n")
    verify = TokenVerifier.from_env(directory=tmp_path).verify
    assert isinstance(verify(auth_server.token()).id, UUID)
    assert "shared secret" in refusal(verify, auth_server.shared_token())
    monkeypatch.setenv("SUPABASE_JWT_SECRET", SECRET)
    assert TokenVerifier.from_env(directory=tmp_path).verify(auth_server.shared_token())
    monkeypatch.chdir(tmp_path)
    assert AsyncTokenVerifier.from_env(roles=["editor"])


def test_the_issuer_may_differ_from_the_auth_servers_url(auth_server):
    """In a private network its host name differs from its issuer."""
    verify = TokenVerifier(auth_server.url, issuer="https://auth.example.com").verify
    assert verify(auth_server.token(iss="https://auth.example.com"))
    assert refusal(verify, auth_server.token()) == "it is from another issuer"
    bare = TokenVerifier(issuer=auth_server.issuer, jwks_url=f"{auth_server.issuer}/.well-known/jwks.json")
    assert bare.verify(auth_server.token())


def test_the_actor_of_an_impersonation_is_the_real_person():
    """RFC 8693, 4.1: ``sub`` is the user, the outermost ``act`` the current actor."""
    user = "5d7b3c1e-0000-4000-8000-000000000001"
    claims = {"sub": user, "role": "authenticated", "exp": 2_000_000_000}
    acting = {"sub": "support", "act": {"sub": "earlier"}}
    assert VerifiedUser.from_claims(claims | {"act": acting}).actor == {
        "actor_id": "support",
        "on_behalf_of": user,
    }
    for act in (None, "support", {}, {"sub": 5}, {"sub": ""}):
        assert VerifiedUser.from_claims(claims | {"act": act}).actor == {"actor_id": user}
