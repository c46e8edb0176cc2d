"""The application's own tables."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """As makemigrations writes it."""

    initial = True
    operations = [  # noqa: RUF012
        migrations.CreateModel(
            name="User",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("email", models.TextField(null=True)),
                ("full_name", models.TextField(null=True)),
                ("deleted_at", models.DateTimeField(null=True)),
            ],
            options={"db_table": "users"},
        ),
        migrations.CreateModel(
            name="Product",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("name", models.TextField(unique=True)),
                ("stock", models.PositiveIntegerField()),
            ],
            options={"db_table": "products"},
        ),
    ]
