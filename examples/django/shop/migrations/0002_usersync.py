"""Installs usersync and its audit log."""

from django.db import migrations

from usersync.contrib.django.operations import ApplyUsersync


class Migration(migrations.Migration):
    """Put it after the users table if the application creates one."""

    atomic = False
    dependencies = [("shop", "0001_initial")]  # noqa: RUF012
    operations = [ApplyUsersync()]  # noqa: RUF012
