"""Users in sync with Supabase's, and the audit log."""

from django.db import migrations

from usersync.contrib.django.operations import ApplyUsersync


class Migration(migrations.Migration):
    """After the users table, had this application one of its own."""

    atomic = False
    dependencies = [("shop", "0001_initial")]  # noqa: RUF012
    operations = [ApplyUsersync()]  # noqa: RUF012
