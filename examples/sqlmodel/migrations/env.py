"""Runs the migrations on the database of SUPABASE_DB_URL."""

import app  # noqa: F401 - the tables
from alembic import context
from sqlalchemy import NullPool
from sqlmodel import SQLModel, create_engine

from usersync.config.dsn import find_dsn
from usersync.contrib.alembic import include_object

url = find_dsn().replace("postgresql://", "postgresql+psycopg://", 1)
options = {"target_metadata": SQLModel.metadata, "include_object": include_object}

if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
