"""Redaction: secrets are removed before an event is stored in the spool or in the database."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import enum
from itertools import product
from pathlib import Path

import pytest

from usersync.config.redaction import REDACTED, Redactor, kind_of

SECRET = "hunter2-do-not-store"  # noqa: S105 - a made-up value


KEYS_OF_SECRETS = """
    password Password PASS-WORD user_password passwd db.passwd secret clientSecret token access_token
    X-Auth-Token Authorization api_key apikey API-Key x-api-key cookie Set-Cookie session_key sessionToken
    credit_card card-number cvv CVC private_key jwt otp PIN credentials
    db_pass smtpPass basic_auth auth_code otp_code user_pin user_ssn x-csrf sentry_dsn DATABASE_URL
    userpassword accesstoken mysecrets passwordhash password2
"""

OTHER_KEYS = """
    name author authority shipping spinning pinned compass passenger email keyboard cards
    pass_rate auth_method session tokens session_id secretary tokenizer passwordless pin_code
"""


@pytest.mark.parametrize("key", [*KEYS_OF_SECRETS.split(), "\N{FULLWIDTH LATIN SMALL LETTER P}assword"])
def test_a_secret_key_is_recognized_in_any_spelling(key):
    assert Redactor().is_secret(key)


@pytest.mark.parametrize("key", OTHER_KEYS.split())
def test_a_harmless_key_is_not_redacted(key):
    assert not Redactor().is_secret(key)


def test_further_words_for_secrets_can_be_added():
    assert Redactor(["Tax No"]).is_secret("their_TaxNo")
    assert not Redactor([""]).is_secret("name")


#: Columns of public applications and frameworks, classified by a person who knows their contents. Numbers,
#: booleans and times are as in the applications' schemas.
COLUMNS = Path(__file__).with_name("column_names.tsv")
EXAMPLES = {
    "text": "x",
    "json": {},
    "bytes": b"x",
    "uuid": "x",
    "number": 1,
    "boolean": True,
    "time": dt.datetime.now(dt.UTC),
}


def test_columns_of_real_applications_are_redacted_as_classified():
    with COLUMNS.open(newline="") as lines:
        columns = list(csv.DictReader(lines, delimiter="\t"))
    is_secret = Redactor().is_secret
    wrong = [
        column
        for column in columns
        if is_secret(column["name"], kind_of(EXAMPLES[column["type"]])) != (column["answer"] == "secret")
    ]
    assert not wrong
    assert len(columns) > 300


@pytest.mark.parametrize("key", ["pin", "cvv", "card_number", "password", "otp_code", "account_number"])
def test_a_number_is_redacted_where_secrets_are_digits(key):
    assert Redactor().is_secret(key, "number")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("access_token", 5),
        ("cookie", True),
        ("secret", dt.timedelta(1)),
        ("password", None),
        ("token", enum.Enum("Kind", "A").A),
    ],
)
def test_numbers_booleans_times_and_null_are_not_redacted(offline, key, value):
    assert Redactor().is_secret(key)
    assert not Redactor().is_secret(key, kind_of(value))
    assert Redactor(["token", "cookie", "secret"]).is_secret(key, "number")


def test_keys_can_be_excluded_from_redaction(make_log, store):
    log = make_log(store.dsn, redact=("seat",), reveal=("Seat-Token", "auth"))
    log.record("a.b", metadata={"seat_token": "A1", "seat": "A2", "auth": "x", "my_auth": "y"})
    log.record("a.b", changes={"auth": ("x", "y"), "seats": (1, 2), "login_count": (1, 2)})
    assert log.flush()
    first, second = store.events()
    assert first["metadata"] == {"seat_token": "A1", "seat": REDACTED, "auth": "x", "my_auth": REDACTED}
    assert second["changes"] == {"auth": ["x", "y"], "seats": [REDACTED, REDACTED], "login_count": [1, 2]}


class Header(enum.Enum):
    KEY = "Authorization"


@dataclasses.dataclass
class Login:
    user: str
    password: str


@dataclasses.dataclass
class Account(Login):
    id: int = 7


def _events():
    yield {"metadata": {"password": SECRET}}
    yield {"metadata": {"a": [{"b": {"API-Key": SECRET}}]}}
    yield {"metadata": {"headers": [("Authorization", SECRET), (b"cookie", SECRET.encode())]}}
    yield {"metadata": {"token": {"deep": [SECRET]}}}
    yield {"metadata": {b"secret": SECRET}}
    yield {"metadata": {"x" * 1000 + "_secret": SECRET}}
    yield {"changes": {"password": (SECRET, SECRET + "2")}}
    yield {"changes": {"settings": ({"token": SECRET}, {"token": SECRET + "2"})}}
    yield {"before": {"password": SECRET}, "after": {"password": SECRET + "2"}}
    yield {"before": Login("a", SECRET), "after": Login("b", SECRET)}
    yield {"after": {"login": Login("a", SECRET)}}
    yield {"before": {"api_key": SECRET}}
    # If the caller passes a user object instead of an id, neither its e-mail nor its password hash is stored.
    for field in ("actor_id", "user_id"):
        yield {field: {"id": 7, "password": SECRET}}
        yield {field: Account("a", SECRET)}
    yield {"entity": ("user", Account("a", SECRET))}
    yield {"entity": Account("a", SECRET)}
    yield {"before": {b"password": SECRET}, "after": {b"password": SECRET + "2"}}
    yield {"changes": {Header.KEY: (SECRET, None), "x" * 300 + "_password": (None, SECRET)}}
    yield {"before": {Header.KEY: SECRET}}
    yield {"metadata": {"pairs": [(Header.KEY, SECRET), (bytearray(b"cookie"), SECRET)]}}
    yield {"metadata": {"headers": [{"name": "Authorization", "value": SECRET}]}}


@pytest.mark.parametrize("event", list(_events()))
def test_no_secret_is_in_the_spool(offline, spool_dir, event):
    with offline.context(metadata={"session_token": {"id": SECRET}}):
        assert offline.record("a.b", **event)
    files = [path for path in spool_dir.rglob("*") if path.is_file()]
    assert any(path.name.endswith("-wal") for path in files)
    for path in files:
        assert SECRET.encode() not in path.read_bytes()


def test_the_error_for_a_wrong_argument_quotes_no_secret(offline):
    ids, others = (
        ("actor_id", "user_id"),
        ("request_id", "user_agent", "ip", "occurred_at", "entity", "outcome"),
    )
    for field, value in (
        *product((*ids, *others), (Login("a", SECRET), [{"password": SECRET}])),
        *product(others, [{"id": 7, "password": SECRET}]),
        *product(["changes"], ({b"password": SECRET}, {"x" * 300 + "_password": SECRET})),
    ):
        with pytest.raises(TypeError, match=field) as raised:
            offline.record("a.b", **{field: value})
        assert SECRET not in f"{raised.value}{raised.value.hint}"


def test_a_changed_secret_is_recorded_without_values(log, store):
    log.record("a.b", before={"password": "a", "n": 1}, after={"password": "b", "n": 1})
    log.record("a.b", before={"o": {"token": "a"}}, after={"o": {"token": "b"}})
    log.record("a.b", before={"password": "a"}, after={"password": "a"})
    assert log.flush()
    changed, nested, same = [event["changes"] for event in store.events()]
    assert changed == {"password": [REDACTED, REDACTED]}
    assert nested == {"o": [{"token": REDACTED}, {"token": REDACTED}]}
    assert same in (None, {})


def test_words_added_for_a_log_are_redacted(make_log, store):
    log = make_log(store.dsn, redact=("iban",))
    log.record("a.b", metadata={"IBAN": "DE00", "name": "x"})
    assert log.flush()
    assert store.event()["metadata"] == {"IBAN": REDACTED, "name": "x"}
