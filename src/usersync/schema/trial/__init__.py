"""The trial: flows of the auth server, tried on a database, each in a transaction that is rolled back.

A *flow* is one request of the auth server, after the requests that it requires: a sign-up, a change, a
deletion (``usersync.schema.trial.flows.FLOWS``). The result of each is an ``Observation``: whether the auth
server's statements were accepted, and which rows of the application's tables were created, changed and
removed, with their values.

Example, with an autocommit connection outside of a transaction::

    from usersync.schema.trial.observer import observe

    trial = observe(connection, settings)             # all flows, each twice; takes some seconds
    if trial.obstacle or trial.observed_nothing: ...  # the trial shows nothing
    seen = trial["sign-up by e-mail"]                 # an Observation
    seen.state                                        # "accepted", "refused" (fault), "not tried" (reason)
    for name, table in seen.tables.items():           # "public.profiles": a TableSeen
        table.inserted, table.updated, table.deleted  # includes rows that nested triggers wrote
        for row in table.rows or ():                  # None: no key refers from the rows to the user
            row.kind, row.values                      # "made", {"id": "<id>", "email": "<email>", "bio": ""}

Placeholders make values comparable between users. ``"<id>"``, ``"<email>"``, ``"<user_metadata.full_name>"``
and ``"<created_at>"`` stand for the user's values (``source_of()`` returns the name of the setting),
``"<now>"`` for the time of the transaction, ``"<email before>"`` for a replaced value, and ``"<varies>"`` for
a value that differs between users and has no known source. Everything else is a constant. A value can mix
both: ``"user_<id>"``. The trial uses only the table names of ``settings``.

The data classes are in ``observation``, which imports no driver, so that all modules can use them.
"""
