"""SQLAlchemy 2: passes the actor to the database, and records changes of models.

::

    engine = create_engine(url)
    pass_context(engine)  # changes that `usersync audit track` records have the actor

    track(Product, audit)  # or record them here, in the transaction of the session
"""

from usersync.config.extras import needed

with needed("sqlalchemy", "usersync.contrib.sqlalchemy"):
    from usersync.contrib.sqlalchemy.passing import pass_context
    from usersync.contrib.sqlalchemy.tracking import track

__all__ = ["pass_context", "track"]
