"""The secrets of webhooks: signatures, rotation and encryption."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography.fernet import Fernet
from standardwebhooks import Webhook, WebhookVerificationError

from event_receivers import EVENT, HOSTILE
from usersync.errors import SettingsError
from usersync.events.formats import FORMATS
from usersync.events.secret_box import KEY_VARIABLE, Secret, SecretBox, new_secret
from usersync.events.webhooks.request import signed_request


@pytest.fixture(autouse=True)
def _directory_without_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("event", [EVENT, HOSTILE], ids=["plain", "hostile"])
def test_the_standard_webhooks_library_verifies_a_request(event, format_name):
    secret = new_secret()
    sent = signed_request(event, format_name, [secret])
    assert Webhook(secret.text).verify(sent.body, dict(sent.headers)) == json.loads(sent.body)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret().text).verify(sent.body, dict(sent.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret.text).verify(sent.body + b" ", dict(sent.headers))
    assert all(value.isprintable() and value.isascii() for value in sent.headers.values())


def test_the_signature_matches_the_example_of_the_specification():
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime(2026, 5, 1, 14, 0, 0, 999_999, timezone(timedelta(hours=2)))
    sent = signed_request(EVENT, "json", [secret], at)
    timestamp = int(datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp())
    signed = f"{EVENT.id}.{timestamp}.".encode() + sent.body
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    expected = b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert sent.headers["webhook-id"] == str(EVENT.id)
    assert sent.headers["webhook-timestamp"] == str(timestamp)
    assert sent.headers["webhook-signature"] == f"v1,{expected}"


def test_during_a_rotation_a_receiver_may_use_either_secret():
    old, new = new_secret(), new_secret()
    sent = signed_request(EVENT, "cloudevents", [new, old])
    assert len(sent.headers["webhook-signature"].split(" ")) == 2
    for each in (old, new):
        Webhook(each.text).verify(sent.body, dict(sent.headers))


def test_a_secret_has_the_format_of_standard_webhooks():
    secrets = {new_secret().text for _ in range(20)}
    assert len(secrets) == 20
    assert all(
        each.startswith("whsec_") and len(b64decode(each[6:], validate=True)) == 32 for each in secrets
    )


def test_a_secret_is_stored_encrypted_and_any_configured_key_decrypts_it(monkeypatch):
    old, new, secret = Fernet.generate_key().decode(), Fernet.generate_key().decode(), new_secret()
    monkeypatch.setenv(KEY_VARIABLE, old)
    stored = SecretBox.from_environment().encrypt(secret)
    assert secret.text not in stored
    assert secret.text[6:] not in b64decode(stored, altchars=b"-_").decode("latin-1")

    monkeypatch.setenv(KEY_VARIABLE, f" {new}, {old} ")
    box = SecretBox.from_environment()
    assert box.decrypt(stored) == secret
    again = box.encrypt_again(stored)
    assert SecretBox([new]).decrypt(again) == secret
    with pytest.raises(SettingsError, match=f"no key in {KEY_VARIABLE} decrypts the secret"):
        SecretBox([new]).decrypt(stored)
    for broken in ("", "x", stored[:-5], stored.replace("gAAAA", "gAAAB"), "ü"):
        with pytest.raises(SettingsError):
            box.decrypt(broken)


@pytest.mark.parametrize("value", ["", " , ", "hidden", "hidden," + "A" * 44, "ü" * 44])
def test_a_missing_or_invalid_key_is_reported_without_its_value(monkeypatch, value):
    monkeypatch.setenv(KEY_VARIABLE, value)
    with pytest.raises(SettingsError) as caught:
        SecretBox.from_environment()
    assert KEY_VARIABLE in str(caught.value)
    assert "openssl" in caught.value.hint
    for text in (str(caught.value), caught.value.hint):
        assert "hidden" not in text
        assert "ü" not in text


def test_repr_text_and_logs_contain_no_secret(caplog):
    caplog.set_level(logging.DEBUG)
    key, secret = Fernet.generate_key().decode(), new_secret()
    box = SecretBox([key])
    sent = signed_request(replace(EVENT, changes={"name": ["hidden", "text"]}), "json", [secret])
    told = f"{secret!r} {secret} {box!r} {sent!r} {caplog.text} {vars(box)!r}"
    assert secret.text not in told
    assert secret.text[6:] not in told
    assert key not in told
    assert "hidden" not in told
