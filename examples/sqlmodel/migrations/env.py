"""Runs the migrations on the database of SUPABASE_DB_URL."""

import os

import app  # noqa: F401 - the tables
from alembic import context
from sqlalchemy import NullPool, make_url
from sqlmodel import SQLModel, create_engine

from usersync.contrib.alembic import include_object

url = make_url(os.environ["SUPABASE_DB_URL"]).set(drivername="postgresql+psycopg")
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
