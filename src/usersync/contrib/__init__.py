"""usersync in web frameworks and ORMs. Each module imports its own framework, and nothing imports these.

``request.py``, ``asgi.py`` and ``wsgi.py`` need the standard library alone; ``auth`` needs PyJWT.
"""
