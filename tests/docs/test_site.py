"""The documentation site builds without warnings, its links work, and a browser shows every page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from fixtures_browser import VIEWPORTS, is_bright, overflowing_widths

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built from a copy of the sources, because the builder writes its cache there."""
    place = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", place)
    shutil.copytree(ROOT / "docs", place / "docs")
    (place / "src").symlink_to(ROOT / "src")
    zensical = Path(sys.executable).with_name("zensical")
    done = subprocess.run(
        [zensical, "build", "--strict", "--config-file", "mkdocs.yml"],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "build/site"


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r"([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text()))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if not page.endswith(".head.md")} <= named


@pytest.mark.slow
def test_links_of_the_site_have_existing_targets(site):
    pages = {page.relative_to(site).as_posix(): page.read_text() for page in site.rglob("*.html")}
    anchors = {name: set(re.findall(r'\bid="?([^"\s>]+)', text)) for name, text in pages.items()}
    broken = []
    for name, text in pages.items():
        for link in re.findall(r'\bhref="?([^"\s>]+)', text):
            target = urlsplit(urljoin(f"http://site/{name}", link))
            if target.netloc != "site" or name == "404.html":
                continue
            path = unquote(target.path).lstrip("/") or "index.html"
            lacks_anchor = target.fragment and unquote(target.fragment) not in anchors.get(path, ())
            if not (site / path).exists() or (path in pages and lacks_anchor):
                broken.append(f"{name}: {link}")
    assert broken == []


@pytest.mark.slow
def test_the_reference_shows_docstrings_as_text(site):
    page = (site / "reference.html").read_text()
    assert "Keeps users in sync" in page
    assert re.findall(r":(?:class|meth|func|attr|data|mod|exc):", page) == []


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.starts_first
def test_a_browser_shows_every_page(site, address, chromium):
    """Each viewport opens a quarter of the pages. Then every page must fit every width."""
    pages = sorted(each.relative_to(site).as_posix() for each in site.rglob("*.html"))
    pages.remove("404.html")
    complaints, asked, wide, bright = [], [], [], set()
    for number, (width, scheme) in enumerate(VIEWPORTS):
        context = chromium.new_context(color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        for name in pages[number :: len(VIEWPORTS)]:
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(address + name)
            assert page.locator("h1").first.is_visible(), name
            bright.add((scheme, is_bright(page)))
            wide += [(name, each) for each in overflowing_widths(page, VIEWPORTS)]
        context.close()
    assert complaints == []
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
    assert wide == []
    assert bright == {("light", True), ("dark", False)}
