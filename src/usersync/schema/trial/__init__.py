"""The trial: flows of the auth server, tried on a database, each in a transaction that is rolled back.

A *flow* is one request of the auth server after those that it needs: a sign-up, a change, a deletion
(``usersync.schema.trial.flows.FLOWS``). What was seen of each is an
``Observation``: whether the auth server's statements were accepted,
and which rows of which of the application's tables were made, changed and removed, with which values.

How to call it, with an autocommit connection that is in no transaction::

    from usersync.schema.trial.observer import observe

    trial = observe(connection, settings)             # all flows, each twice; blocks for some seconds
    if trial.obstacle or trial.observed_nothing: ...  # say so; do not conclude anything
    seen = trial["sign-up by e-mail"]                 # an Observation
    seen.state                                        # "accepted", "refused" (fault), "not tried" (reason)
    for name, table in seen.tables.items():           # "public.profiles": a TableSeen
        table.inserted, table.updated, table.deleted  # by triggers of triggers too
        for row in table.rows or ():                  # None: no key leads from the user to the rows
            row.kind, row.values                      # "made", {"id": "<id>", "email": "<email>", "bio": ""}

Values are comparable between users. ``"<id>"``, ``"<email>"``, ``"<user_metadata.full_name>"`` and
``"<created_at>"`` stand for the user's own (``source_of()`` gives the
name as the settings have it), ``"<now>"`` for the time of the transaction, ``"<email before>"`` for what the
request replaced, and ``"<varies>"`` for what differs from user to user and comes from no source. Everything
else is a constant. ``"user_<id>"`` is a value put together. Of ``settings`` only the names of the auth
server's table and of the users table are used.

The data classes are in ``observation``, which imports no driver: every part of usersync may use them.
"""
