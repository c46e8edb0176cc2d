"""Imports of many users by SQL and by COPY."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from usersync.gotrue.session import AuthSession

if TYPE_CHECKING:
    from collections.abc import Iterable

# Written like the rows that a migration from another system brings: complete, confirmed, never signed in.
_COLUMNS = """
    instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, confirmation_token,
    recovery_token, email_change_token_new, email_change, raw_app_meta_data, raw_user_meta_data,
    is_super_admin, created_at, updated_at
"""
_COPY = "copy auth.users (instance_id, id, aud, role, email, raw_app_meta_data, created_at) from stdin"
_PROVIDER = '{"provider": "email", "providers": ["email"]}'


class Imports(AuthSession):
    """Many users in one statement. Neither is a request of GoTrue; both are used to migrate to Supabase."""

    def import_users(self, count: int, *, domain: str = "import.example.com") -> list[UUID]:
        """Insert ``count`` users by one INSERT … SELECT, and return their ids in order of their addresses.

        The n-th has the address ``user-n@domain`` and the name ``User n``.
        """
        statement = f"""
            insert into auth.users ({_COLUMNS})
            select '00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'authenticated',
                   'authenticated', 'user-' || n || '@' || %(domain)s, '', now(), '', '', '', '',
                   %(provider)s::jsonb,
                   jsonb_build_object('full_name', 'User ' || n, 'email_verified', true),
                   false, now(), now()
            from generate_series(1, %(count)s::int) as n
            returning id
        """
        arguments = {"domain": domain, "provider": _PROVIDER, "count": count}
        with self.request("Database error saving new user"):
            return [row[0] for row in self.connection.execute(statement, arguments).fetchall()]

    def copy_users(self, emails: Iterable[str]) -> list[UUID]:
        """COPY one user for each address, and return their ids in the same order."""
        ids = []
        cursor = self.connection.cursor()
        with self.request("Database error saving new user"), cursor.copy(_COPY) as copy:
            for email in emails:
                ids.append(uuid4())
                copy.write_row(_imported(ids[-1], email))
        return ids


def _imported(user_id: UUID, email: str) -> tuple[Any, ...]:
    at = "now"  # PostgreSQL's special value for a timestamp
    return (UUID(int=0), user_id, "authenticated", "authenticated", email.lower(), _PROVIDER, at)
