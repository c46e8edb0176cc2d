from django.db import migrations

from usersync.contrib.django.operations import ApplyUsersync


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("django_shop", "0002_usersync")]  # noqa: RUF012
    operations = [ApplyUsersync()]  # noqa: RUF012
