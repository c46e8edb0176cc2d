from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [  # noqa: RUF012
        migrations.CreateModel(
            "User",
            [("id", models.UUIDField(primary_key=True)), ("email", models.TextField(null=True))],
            {"db_table": "users"},
        )
    ]
