"""The sample applications of ``tests/schemas``: the settings and the expected failures of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SCHEMAS = Path(__file__).parent / "schemas"

TENANT = {"tenant_id": "11111111-1111-4111-8111-111111111111"}


@dataclass(frozen=True)
class Project:
    """The settings and the expected failures of one application."""

    #: The users table, if usersync cannot detect it.
    table: str | None = None
    #: Changes that a person makes to the settings file that ``init`` wrote: the old text, the new text.
    answers: tuple[tuple[str, str], ...] = ()
    #: Columns that a person adds to the settings file, and changes of the table (``prepared``).
    decided: str = ""
    prepared: str = ""
    #: The (SQLSTATE, column) of sync failures that may occur.
    sync_failures: frozenset = field(default_factory=frozenset)
    #: The flows that the application's own constraints and triggers refuse, with or without usersync.
    refused: frozenset = field(default_factory=frozenset)


#: The application has UNIQUE e-mail addresses, and two users of single sign-on have the same one.
DUPLICATE_EMAIL = frozenset({("23505", "email")})

PROJECTS = {
    "nextjs_saas": Project(refused=frozenset({"hard_delete"})),
    "user_management": Project(),
    "multi_tenant": Project(sync_failures=frozenset({("23502", "tenant_id"), ("23502", "email")})),
    # The application's trigger that also opens wallets is kept. It inserts a duplicate e-mail of single
    # sign-on.
    "marketplace": Project(refused=frozenset({"sso_again"})),
    "legacy_bigint": Project(
        table="public.users",
        answers=(("creates_rows = false", "creates_rows = true"),),
        sync_failures=DUPLICATE_EMAIL,
    ),
    "unique_username": Project(),
    "kinds_of_types": Project(
        table="public.users", sync_failures=frozenset({("23514", "age"), ("22P02", "age")})
    ),
    "required_columns": Project(
        table="public.users",
        decided='country = { from = "app_metadata.country", default = "DE", owner = "app" }\n'
        'tier = { from = "app_metadata.tier", type = "public.account_tier", default = "free" }\n'
        'terms_accepted_at = { from = "created_at", owner = "app" }\n',
        prepared="alter table public.users alter column referral_code set default gen_random_uuid()::text",
        sync_failures=DUPLICATE_EMAIL | {("23502", "email")},
    ),
    "soft_delete": Project(sync_failures=DUPLICATE_EMAIL),
    "own_triggers": Project(),
    "webhook": Project(),
    "camel_case": Project(table="public.User", sync_failures=DUPLICATE_EMAIL),
    "text_ids": Project(sync_failures=frozenset({("23505", "email"), ("23502", "email")})),
    "users_and_profiles": Project(),
    "no_table": Project(),
}
