"""The browser that tests drive."""

import json
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome

FETCH = """
const [url, options, done] = arguments
fetch(url, options).then(
  async (response) => done({
    status: response.status, headers: Object.fromEntries(response.headers), body: await response.text(),
  }),
  (error) => done({refusal: error.name}),
)
"""


class Browser:
    """A browser, and its console and network log since the previous call."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def complaints(self) -> list[str]:
        """Return the console's messages, warnings included."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]

    def requests(self) -> tuple[set[str], set[str]]:
        """Return the requested URLs, and those that the page's policy blocked."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = {
            event["params"]["requestId"]: event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }
        blocked = {
            urls[event["params"]["requestId"]]
            for event in events
            if event["method"] == "Network.loadingFailed" and event["params"].get("blockedReason") == "csp"
        }
        loaded = {url for url in urls.values() if urlsplit(url).scheme not in {"data", "blob"}}
        return loaded - blocked, blocked

    def fetch(self, url: str, method: str = "GET", body: str | None = None, **headers: str) -> dict[str, Any]:
        """Fetch a URL from the open page, and return what the page can read."""
        options = {"method": method, "headers": {name.replace("_", "-"): value for name, value in headers.items()}}
        response: dict[str, Any] = self.driver.execute_async_script(
            FETCH, url, options if body is None else options | {"body": body}
        )
        return response
