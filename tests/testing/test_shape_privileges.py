"""Who may do what on auth.users, as measured on the platform's own images (facts 1.2)."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

HOOK = """
    create function public.hook() returns trigger language plpgsql security definer set search_path = ''
    as $$ begin return null; end $$
"""
TRIGGER = "create trigger hook after insert on auth.users for each row execute function public.hook()"


def test_postgres_is_not_a_superuser(postgres):
    row = postgres.execute(
        "select rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = current_user"
    ).fetchone()
    assert row == (False, True, True)
