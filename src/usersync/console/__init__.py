"""The console: pages in the browser that show what the command shows.

::

    from usersync import console

    app.mount("/usersync", console.app(pool, authorize=is_admin))

``usersync console`` serves the same pages to the browser of this machine. ``viewer()`` shows the events of
one tenant to customers, behind a link of ``viewer_link()``. Needs the extra ``console``.
"""

from usersync.config.extras import needed

with needed("console", "usersync.console"):
    import jinja2 as _jinja2  # noqa: F401 - here, so that the error names all packages
    import uvicorn as _uvicorn  # noqa: F401 - likewise

    from usersync.console.actions import AllowActions
    from usersync.console.application import Authorize, app
    from usersync.console.customer_pages import viewer
    from usersync.console.links import viewer_link

__all__ = ["AllowActions", "Authorize", "app", "viewer", "viewer_link"]
