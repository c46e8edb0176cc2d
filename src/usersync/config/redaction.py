"""Decides which values are secrets, by the name of the key or column and by the type of the value.

Secrets are redacted before an event is stored. Personal data is stored, and erased on request: see
``personal_data`` and ``usersync.audit.erasure``.

The same rules serve events in Python and the columns of tracked tables. They do not find a password in the
middle of a text, in a string that contains JSON, or in ``postgresql://user:password@host``.

A name is read as English reads a compound: its last word says what the value is (``token_count`` is a count,
``count_token`` is a token), and the words before it say of what.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

REDACTED = "[redacted]"

ValueKind = Literal["null", "flag", "time", "number", "other"]
"""The type of a value, as far as it matters here. A flag is a boolean or a member of an enumeration."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Secrets wherever they are in a name, and at the end of a longer word (``userpassword``).
_STRONG = _words(
    "password passwd passphrase passcode pwd secret credential authorization bearer jwt cookie mnemonic"
    " cvv cvc apikey accesskey privatekey secretkey signingkey encryptionkey servicekey hmackey sessionkey"
    " accesstoken refreshtoken authtoken sessiontoken apitoken bottoken csrftoken idtoken creditcard"
    " cardnumber cardno securitycode socialsecurity accountnumber connectionstring databaseurl dburl"
    " redisurl brokerurl"
)
_STRONG_WORDS = _STRONG | {f"{word}s" for word in _STRONG}

#: Secrets as the last word: they are too short to be searched in a name (``pin`` is in ``shipping``).
_LAST = _words("auth otp totp pin pan ssn dsn pass iban csrf xsrf salt token signature ciphertext")

_KEYS = _words(
    "api access private secret signing encryption encrypted decryption cipher crypto service master hmac"
    " hash hashed ssh gpg pgp rsa ecdsa ed25519 aes tls ssl jwt jwe token session auth authentication"
    " oauth otp totp mfa webhook bot merchant license licence activation account admin server client user"
    " wallet recovery unseal vault deploy ingestion push fcm vapid sas maps role openai anthropic claude"
    " gemini groq mistral cohere perplexity openrouter huggingface replicate deepseek elevenlabs stripe"
    " paypal braintree razorpay adyen mollie plaid twilio sendgrid mailgun mailchimp postmark resend brevo"
    " aws azure gcp google cloudflare digitalocean firebase supabase algolia segment sentry datadog"
    " newrelic amplitude mixpanel posthog intercom slack discord telegram github gitlab bitbucket jira"
    " hubspot salesforce zendesk shopify mapbox pinecone tavily serper"
)
_CODES = _words(
    "reset recovery backup verification otp auth authentication access security confirmation activation"
    " mfa totp sms login magic onetime used pairing unlock factor change device persist"
)
_LINKS = _words("magic reset login recovery verification confirmation unlock")

#: The last word of a secret, with the words that may precede it. An empty word: no other word has to precede
#: it.
_PAIRS: dict[str, frozenset[str]] = {
    "key": _KEYS,
    "keys": _words("api access private secret signing encryption encrypted service ssh auth recovery"),
    "tokens": _words(
        "access refresh auth api reset session oauth bearer csrf device push fcm invite recovery"
    ),
    "code": _CODES,
    "codes": _CODES,
    "link": _LINKS,
    "links": _LINKS,
    "phrase": _words("seed recovery secret backup wallet"),
    "seed": _words("wallet otp totp recovery master"),
    "private": _words("ssh rsa gpg pgp key"),
    "pem": _words("private key"),
    "hash": _words("key invite invitation"),
    "verifier": _words("code pkce"),
    "card": _words("credit debit"),
    "word": _words("pass"),
    "number": _words("account card cc iban security"),
    "no": _words("account card cc"),
    "url": _words("database db redis broker"),
    "sid": frozenset(("", "connect", "session")),
    "data": _words("session token auth"),
    "string": _words("session connection"),
    "config": _words("auth oauth"),
}

#: A webhook of these services needs no other secret.
_CHATS = _words("slack discord teams mattermost telegram")

#: Words after the name of a secret: the same secret in another form (``token_hash``, ``api_key_encrypted``).
_FORMS = _words(
    "hash digest encrypted cipher ciphertext crypt plain raw salt code key value number no text string"
    " data set base64 hex current new old previous"
)

#: The last word of a name that is about a secret, and not a secret itself: ``token_type``, ``session_id``,
#: ``password_changed_at``.
_ABOUT = _words(
    "id ids uid uuid at on date time timestamp until since name username label title description type"
    " types kind category status state expires expiry expiration ttl lifetime age duration timeout count"
    " counter total size length bits version attempts tries retries limit quota usage used cost price"
    " budget enabled disabled required verified valid invalid pending active expired method methods mode"
    " format algorithm algo params options policy rule rules scope scopes provider providers issuer"
    " audience endpoint url uri path host domain prefix suffix lookup identifier reference owner user"
    " provenance strength consent preferences settings scheme schemes fields index order metadata brand"
    " holder country message reason error in out prompt completion level challenge last"
)

#: The first word of a question or an amount: ``has_password``, ``max_tokens``.
_ASKING = _words(
    "is has should must can allow allows enable disable require requires required use uses show hide skip"
    " force needs include max min num number count avg total failed remaining used"
)

#: A part of a secret, as it is shown to its owner.
_SHOWN = _words("masked hidden partial obfuscated display preview truncated")

#: Two words that together are no secret. A pin code is also a postal code.
_HARMLESS = frozenset(
    (
        ("public", "key"),
        ("publishable", "key"),
        ("pin", "code"),
        ("email", "signature"),
        ("method", "signature"),
        ("transaction", "signature"),
        ("response", "code"),
        ("error", "code"),
        ("status", "code"),
        ("page", "token"),
        ("design", "token"),
    )
)

#: Secrets of digits: under these words, a number is redacted, too.
_OF_DIGITS = _words(
    "password passwd passcode pwd pin otp totp pan ssn cvv cvc cardnumber cardno accountnumber creditcard"
    " securitycode socialsecurity number no code codes"
)

_NOTHING: frozenset[ValueKind] = frozenset()
_TEXTS: frozenset[ValueKind] = frozenset(("other",))
_TEXTS_AND_NUMBERS: frozenset[ValueKind] = frozenset(("other", "number"))
_EVERYTHING: frozenset[ValueKind] = frozenset(("other", "number", "time", "flag"))

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_FUSED = re.compile(
    rf"(?P<before>\w*?)(?P<secret>(?:{'|'.join(sorted(_STRONG, key=len, reverse=True))})s?)"
    rf"(?P<after>|{'|'.join(sorted(_FORMS | _ABOUT, key=len, reverse=True))})"
)


def secret_pattern() -> str:
    """A regular expression for names that could be secrets, for the database.

    It expects the words of a name in lower case, with an underscore before and after each. It matches every
    name that ``Redactor`` takes for a secret, and some others, such as ``token_count``.
    """

    def any_of(words: Iterable[str]) -> str:
        return f"({'|'.join(sorted(words))})"

    pairs = (f"_{any_of(before)}_{last}_" for last, before in sorted(_PAIRS.items()) if "" not in before)
    alone = {last for last, before in _PAIRS.items() if "" in before} | _LAST
    return "|".join((any_of(_STRONG), f"_{any_of(alone)}_", *pairs, "^_encrypted_", "_(webhook|hook)_url_"))


_REMEMBERED = 4096
_LONG = 200


class Redactor:
    """Recognizes a secret's key in any spelling: ``API-Key``, ``api_key``, ``apiKey``.

    ``extra`` are further words: a key that contains one is a secret, with any value. ``reveal`` are complete
    keys that are no secrets, although they look like one.
    """

    def __init__(self, extra: Iterable[str] = (), reveal: Iterable[str] = ()) -> None:
        words = [*filter(None, map(_bare, extra))]
        self._extra = re.compile("|".join(map(re.escape, words))) if words else None
        self._revealed = frozenset(map(_bare, reveal))
        self._known: dict[str, frozenset[ValueKind]] = {}

    def is_secret(self, key: str, kind: ValueKind = "other") -> bool:
        """Whether a value of this kind under ``key`` must not be stored."""
        kinds = self._known.get(key)
        if kinds is None:
            kinds = self._redacted_kinds(key)
            if len(self._known) < _REMEMBERED and len(key) < _LONG:
                self._known[key] = kinds
        return kind in kinds

    def _redacted_kinds(self, key: str) -> frozenset[ValueKind]:
        bare = _bare(key)
        if bare in self._revealed:
            return _NOTHING
        if self._extra is not None and self._extra.search(bare):
            return _EVERYTHING
        words = _split(key)
        if not _names_secret(words):
            return _NOTHING
        return _TEXTS_AND_NUMBERS if _OF_DIGITS.intersection(words[-2:]) else _TEXTS


class Checked:
    """A value in ``changes`` that is recorded under any name: the caller has checked the name."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def kind_of(value: object) -> ValueKind:
    """The kind of a Python value, by its type alone."""
    kind = type(value)
    if kind is str:
        return "other"
    if value is None or kind is Checked:
        return "null"
    if kind is bool or issubclass(kind, Enum):
        return "flag"
    if issubclass(kind, (int, float, Decimal)):
        return "number"
    return "time" if issubclass(kind, (date, time, timedelta)) else "other"


def _names_secret(words: list[str]) -> bool:
    if not words or _is_about(words):
        return False
    if words[0] == "encrypted" or not _STRONG_WORDS.isdisjoint(words):
        return True
    return _is_whole(words) or any(
        _is_whole(words[:end]) for end in range(1, len(words)) if _FORMS.issuperset(words[end:])
    )


def _is_about(words: list[str]) -> bool:
    """Whether the value is about a secret, or a part of one that may be shown."""
    if not _HARMLESS.isdisjoint(pairwise(words)) or not _SHOWN.isdisjoint(words):
        return True
    return words[0] in _ASKING or (words[-1] in _ABOUT and not _is_whole(words))


def _is_whole(words: list[str]) -> bool:
    """Whether the last word, with the one before it, is the word for a secret."""
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "url" and before in {"webhook", "hook"}:
        return not _CHATS.isdisjoint(words)
    return last in _LAST or before in _PAIRS.get(last, ())


def _split(key: str) -> list[str]:
    """The words of a name in lower case, without a number at the end. ``userpassword`` is two words."""
    found: list[str] = []
    for part in _WORD.findall(unicodedata.normalize("NFKC", key)):
        word = part.lower()
        fused = None if word in _STRONG_WORDS else _FUSED.fullmatch(word)
        found += filter(None, fused.groups()) if fused else (word,)
    while len(found) > 1 and found[-1].isdigit():
        found.pop()
    return found


def _bare(key: str) -> str:
    folded = unicodedata.normalize("NFKC", key).casefold()
    return "".join(character for character in folded if character.isalnum())
