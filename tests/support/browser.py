"""The browser, as tests drive it."""

import json
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome

FETCH = """
const [url, options, done] = arguments
fetch(url, options).then(
  async (answer) => done({
    status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text(),
  }),
  (error) => done({refusal: error.name}),
)
"""


class Browser:
    """The browser, and what it did and complained about since it was last asked."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def complaints(self) -> list[str]:
        """Tell what stands in the console, warnings included."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]

    def requests(self) -> tuple[set[str], set[str]]:
        """Tell which addresses were asked for, and which of them were not because the page's policy forbade it."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = {
            event["params"]["requestId"]: event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }
        blocked = {
            asked[event["params"]["requestId"]]
            for event in events
            if event["method"] == "Network.loadingFailed" and event["params"].get("blockedReason") == "csp"
        }
        loaded = {url for url in asked.values() if urlsplit(url).scheme not in {"data", "blob"}}
        return loaded - blocked, blocked

    def fetch(self, url: str, method: str = "GET", body: str | None = None, **headers: str) -> dict[str, Any]:
        """Let the page that is open call an address, and tell what the page can read."""
        options = {"method": method, "headers": {name.replace("_", "-"): value for name, value in headers.items()}}
        answer: dict[str, Any] = self.driver.execute_async_script(
            FETCH, url, options if body is None else options | {"body": body}
        )
        return answer
