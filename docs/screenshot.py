"""Takes the picture on docs/console.md: the console with the data of the demo. Run with: make screenshot

It needs Chromium. A test compares the hash of what the page is made of with the one beside the picture, so it
needs no Chromium to find a stale picture.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from pathlib import Path

from usersync.console.rendering import HERE, NAVIGATION

DOCS = Path(__file__).parent
PAGE, PICTURE = DOCS / "console.md", DOCS / "console.png"
_NOTE = re.compile(r"<!-- made of ([0-9a-f]{16}): make screenshot -->")

#: The page, and the macros that it uses.
_ADDRESS = "/entity?entity=product/1"
_FILES = (
    "templates/base.html",
    "templates/entity.html",
    "templates/times.html",
    "static/console.css",
    "static/times.js",
)
_MACROS = ("changes", "entity_form", "outcome", "paging", "timeline")


def inputs() -> str:
    """The hash of what decides how the page looks."""
    macros = (HERE / "templates/macros.html").read_text()
    parts = [(HERE / name).read_text() for name in _FILES]
    for name in _MACROS:
        found = re.search(rf"\{{% macro {name}\(.*?\{{% endmacro %\}}", macros, re.DOTALL)
        if found is None:
            raise LookupError(f"there is no macro {name}; the page may use another one now")
        parts.append(found[0])
    parts.append(repr(NAVIGATION))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def noted() -> str:
    """The hash beside the picture."""
    found = _NOTE.search(PAGE.read_text())
    if found is None:
        raise LookupError(f"{PAGE.name} has no note beside the picture")
    return found[1]


def main() -> None:
    """Run the demo, take the picture, and note what it is made of."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not for the check

    from usersync.cli.demo.environment import open_environment  # noqa: PLC0415 - likewise
    from usersync.cli.demo.steps import STEPS  # noqa: PLC0415 - likewise
    from usersync.console.local import LocalConsole  # noqa: PLC0415 - likewise

    with open_environment(None) as (env, _):
        for _, step in STEPS:
            for _ in step(env, 80):
                pass
        served = LocalConsole(env.url)
        thread = threading.Thread(target=served.serve)
        thread.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                    args=["--no-sandbox"] if os.geteuid() == 0 else [],
                )
                page = browser.new_page(viewport={"width": 1100, "height": 720}, color_scheme="light")
                page.goto(served.url)
                page.goto(served.url.partition("/open/")[0] + _ADDRESS)
                page.screenshot(path=PICTURE)
                browser.close()
        finally:
            served.stop()
            thread.join()
    PAGE.write_text(_NOTE.sub(f"<!-- made of {inputs()}: make screenshot -->", PAGE.read_text()))


if __name__ == "__main__":
    main()
