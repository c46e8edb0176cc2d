"""The screenshot of the console in the documentation is up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_screenshot_of_the_console_is_up_to_date():
    """Needs no browser: the test compares a hash of the templates and the style sheet."""
    spec = importlib.util.spec_from_file_location("screenshot", DOCS / "screenshot.py")
    screenshot = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(screenshot)
    assert screenshot.noted() == screenshot.inputs(), "Run: make screenshot"
    assert screenshot.PICTURE.read_bytes().startswith(b"\x89PNG")
