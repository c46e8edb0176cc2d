"""A headless Chromium that the tests of web pages share."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from hooks_skips import skip_without

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from playwright.sync_api import Page

#: Width in pixels, and the preferred colour scheme.
VIEWPORTS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        skip_without("Chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=arguments, timeout=100_000)
        yield browser
        browser.close()


def overflowing_widths(page: Page, readers: Iterable[tuple[int, str]]) -> Iterator[int]:
    """The widths of these viewports at which an open page scrolls horizontally. The page is not reloaded."""
    for width in sorted({width for width, _ in readers}):
        page.set_viewport_size({"width": width, "height": 800})
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            yield width


def is_bright(page: Page) -> bool:
    """Whether an open page has a light background."""
    colour = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    return sum(page.evaluate(colour)) > 380
