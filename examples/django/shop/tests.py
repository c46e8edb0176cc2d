"""Tests for ``manage.py test`` and pytest-django. They need a PostgreSQL, and no Supabase."""

from uuid import UUID, uuid4

from django.core.management import call_command
from django.db import connection
from django.test import TestCase, TransactionTestCase

from shop.models import Product, User
from usersync.contrib.django import audit


def sign_up(email: str) -> UUID:
    """Insert a user as the auth server does. The trigger creates the row of the users table."""
    user_id = uuid4()
    with connection.cursor() as cursor:
        cursor.execute("insert into auth.users (id, email) values (%s, %s)", [user_id, email])
    return user_id


class UsersTest(TestCase):
    """Each test runs in a transaction that is rolled back."""

    def test_a_sign_up_creates_the_row(self) -> None:
        user_id = sign_up("ada@example.com")
        self.assertEqual(User.objects.get().pk, user_id)

    def test_the_next_test_begins_without_users(self) -> None:
        self.assertEqual(User.objects.count(), 0)
        sign_up("ada@example.com")

    def test_an_event_in_the_transaction(self) -> None:
        user_id = sign_up("ada@example.com")
        audit.record_in(connection, "product.created", user_id=user_id, required=True)
        with connection.cursor() as cursor:
            cursor.execute("select action, user_id from audit_logs")
            self.assertEqual(cursor.fetchall(), [("product.created", user_id)])


class CommittedTest(TransactionTestCase):
    """Each test commits, and ends with ``flush``."""

    fixtures = ("users.json",)

    def test_a_fixture_and_a_sign_up(self) -> None:
        sign_up("ada@example.com")
        self.assertEqual(User.objects.count(), 2)
        self.assertEqual(Product.objects.get().stock, 10)

    def test_the_same_again(self) -> None:
        self.test_a_fixture_and_a_sign_up()

    def test_flush(self) -> None:
        call_command("flush", interactive=False, verbosity=0)
        self.assertEqual(User.objects.count(), 0)
        sign_up("ada@example.com")
