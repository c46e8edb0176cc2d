from django.db import migrations

from usersync.contrib.django.operations import ApplyUsersync


class Migration(migrations.Migration):
    operations = [ApplyUsersync()]  # noqa: RUF012
