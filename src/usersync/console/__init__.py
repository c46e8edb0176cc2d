"""The console: pages in the browser that show what the command shows. They change nothing.

::

    from usersync import console

    app.mount("/usersync", console.app(pool, authorize=is_admin))

``usersync console`` serves the same pages to the browser of this machine. Needs the extra ``console``.
"""

from usersync.config.extras import needed

with needed("console", "usersync.console"):
    import jinja2 as _jinja2  # noqa: F401 - here, so that the error names all packages
    import uvicorn as _uvicorn  # noqa: F401 - likewise

    from usersync.console.application import Authorize, app

__all__ = ["Authorize", "app"]
