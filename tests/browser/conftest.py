"""A real browser without a screen, the real server, and two sites whose pages call it.

`make browser` runs these tests, with the programs that CHROMIUM and CHROMEDRIVER name.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from sqlalchemy import URL

from tests.support.browser import Browser
from tests.support.servers import Server, serving

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMEDRIVER = os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")
SWITCHES = (
    "--headless",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-first-run",
    "--window-size=1280,1600",
)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser, with a profile of its own."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(switch)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # it refuses to have one as root
    with Chrome(options, ChromeService(CHROMEDRIVER)) as driver:  # named, so that none is downloaded
        driver.set_script_timeout(30)
        yield driver


@pytest.fixture
def browser(driver: Chrome) -> Browser:
    """The browser on an empty page."""
    driver.get("about:blank")
    browser = Browser(driver)
    browser.complaints()
    browser.requests()
    return browser


class _EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page</title><link rel=icon href=data:,>")

    def log_message(self, *_words: object) -> None:
        pass


@contextmanager
def _site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage) as site:
        thread = Thread(target=site.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{site.server_port}"
        finally:
            site.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def allowed_site() -> Iterator[str]:
    """A site whose origin may call the API."""
    with _site() as origin:
        yield origin


@pytest.fixture(scope="session")
def other_site() -> Iterator[str]:
    """A site whose origin may not."""
    with _site() as origin:
        yield origin


@pytest.fixture(scope="module")
def server(database_of: Callable[[str], URL], allowed_site: str) -> Iterator[Server]:
    """A server that lets pages of one site call it."""
    with serving(database_of("sqlite"), CORS_ORIGINS=allowed_site) as server:
        yield server
        assert server.end() == 0
