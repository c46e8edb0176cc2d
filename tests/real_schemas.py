"""The projects of ``tests/schemas``: what is peculiar to each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SCHEMAS = Path(__file__).parent / "schemas"

TENANT = {"tenant_id": "11111111-1111-4111-8111-111111111111"}


@dataclass(frozen=True)
class Project:
    """What is peculiar to one of them."""

    #: The table, where the database does not show it.
    table: str | None = None
    #: What a person answers: settings of the file, as they are to be instead.
    answers: tuple[tuple[str, str], ...] = ()
    #: What a person decides: columns added to the file, and changes to the table.
    decided: str = ""
    prepared: str = ""
    #: The (SQLSTATE, column) under which users may stand in the failures table.
    sync_failures: frozenset = field(default_factory=frozenset)
    #: What the application's own constraints and triggers refuse the auth server, with or without usersync.
    refused: frozenset = field(default_factory=frozenset)


#: An address is unique to the application, and single sign-on has it twice.
TAKEN = frozenset({("23505", "email")})

PROJECTS = {
    "nextjs_saas": Project(refused=frozenset({"hard_delete"})),
    "user_management": Project(),
    "multi_tenant": Project(sync_failures=frozenset({("23502", "tenant_id"), ("23502", "email")})),
    # The trigger that also opens wallets stays, and inserts an address that single sign-on has twice.
    "marketplace": Project(refused=frozenset({"sso_again"})),
    "legacy_bigint": Project(
        table="public.users", answers=(("creates_rows = false", "creates_rows = true"),), sync_failures=TAKEN
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
        sync_failures=TAKEN | {("23502", "email")},
    ),
    "soft_delete": Project(sync_failures=TAKEN),
    "own_triggers": Project(),
    "webhook": Project(),
    "camel_case": Project(table="public.User", sync_failures=TAKEN),
    "text_ids": Project(sync_failures=frozenset({("23505", "email"), ("23502", "email")})),
    "users_and_profiles": Project(),
    "no_table": Project(),
}
