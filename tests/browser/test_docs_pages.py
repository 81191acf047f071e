"""The documentation pages in a browser: they show the API, and load nothing from elsewhere."""

import json
from typing import Any

import httpx2
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.browser import Browser
from tests.support.servers import Server

PATIENCE_SECONDS = 30
PARTS = (".opblock-summary-method", ".opblock-summary-path")


def wait_for(browser: Browser, selector: str, many: int = 1) -> list[Any]:
    """Wait until this many elements are visible."""

    def seen(_driver: object) -> list[Any]:
        elements = [
            element for element in browser.driver.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()
        ]
        return elements if len(elements) >= many else []

    found: list[Any] = WebDriverWait(browser.driver, PATIENCE_SECONDS).until(seen)
    return found


@pytest.fixture
def operations(server: Server) -> list[tuple[str, str]]:
    """Every operation of the API: its method and path."""
    paths = httpx2.get(f"{server.address}/openapi.json").json()["paths"]
    return sorted((method, path) for path, methods in paths.items() for method in methods)


def test_docs_shows_every_operation_and_loads_nothing_from_elsewhere(
    browser: Browser, server: Server, operations: list[tuple[str, str]]
) -> None:
    browser.driver.get(f"{server.address}/docs")

    blocks = wait_for(browser, ".opblock", many=len(operations))
    shown = [
        tuple(block.find_element(By.CSS_SELECTOR, part).text.replace("\u200b", "") for part in PARTS)
        for block in blocks
    ]
    assert sorted((method.lower(), path) for method, path in shown) == operations
    loaded, blocked = browser.requests()
    assert {url.removeprefix(server.address).partition("/")[0] for url in loaded} == {""}
    assert f"{server.address}/openapi.json" in loaded
    assert blocked == set()
    assert browser.complaints() == []


def test_an_operation_can_be_tried_out_on_docs(browser: Browser, server: Server) -> None:
    browser.driver.get(f"{server.address}/docs")

    wait_for(browser, "#operations-system-live .opblock-summary-control")[0].click()
    wait_for(browser, ".opblock.is-open .try-out__btn")[0].click()
    wait_for(browser, ".opblock.is-open .execute")[0].click()

    answer = wait_for(browser, ".opblock.is-open .live-responses-table .response")[0]
    assert answer.text.startswith("200")
    assert browser.complaints() == []


STATE = "return JSON.stringify([ui.getState().toJS(), {...localStorage}, {...sessionStorage}, document.cookie])"


def test_docs_keeps_nothing_of_a_sign_in_but_the_access_token(browser: Browser, server: Server) -> None:
    account = {"email": "ann@example.com", "password": "a clear password"}
    assert httpx2.post(f"{server.address}/users", json=account).status_code == 201
    browser.driver.get(f"{server.address}/docs")
    browser.driver.execute_script("localStorage.setItem('authorized', 'of an earlier release')")
    browser.driver.get(f"{server.address}/docs")

    wait_for(browser, ".scheme-container .authorize")[0].click()
    wait_for(browser, "#oauth_username")[0].send_keys(account["email"])
    wait_for(browser, "#oauth_password")[0].send_keys(account["password"])
    wait_for(browser, ".auth-btn-wrapper .authorize")[0].click()
    wait_for(browser, ".scheme-container .authorize.locked")
    assert browser.driver.find_elements(By.CSS_SELECTOR, "#oauth_password") == []

    state = browser.driver.execute_script(STATE)
    assert account["password"] not in state
    auth, *stored = json.loads(state)
    assert "refresh_token" not in json.dumps(auth["auth"])  # the document beside it has an example of one
    assert stored == [{}, {}, ""]
    (authorized,) = auth["auth"]["authorized"].values()
    assert authorized.keys() == {"name", "schema", "token"}
    assert authorized["token"].keys() == {"access_token"}
    signed_in = {"Authorization": f"Bearer {authorized['token']['access_token']}"}
    assert httpx2.get(f"{server.address}/profile", headers=signed_in).status_code == 200

    wait_for(browser, ".scheme-container .authorize")[0].click()
    wait_for(browser, ".auth-btn-wrapper .btn-done")
    buttons = wait_for(browser, ".auth-btn-wrapper .auth")
    next(button for button in buttons if button.text == "Logout").click()
    wait_for(browser, "#oauth_password")
    assert httpx2.get(f"{server.address}/profile", headers=signed_in).status_code == 401
    assert authorized["token"]["access_token"] not in browser.driver.execute_script(STATE)


def test_docs_says_why_a_sign_in_was_refused(browser: Browser, server: Server) -> None:
    browser.driver.get(f"{server.address}/docs")

    wait_for(browser, ".scheme-container .authorize")[0].click()
    wait_for(browser, "#oauth_username")[0].send_keys("bob@example.com")
    wait_for(browser, "#oauth_password")[0].send_keys("a wrong password")
    wait_for(browser, ".auth-btn-wrapper .authorize")[0].click()

    (shown,) = wait_for(browser, ".auth-container .errors")
    assert "error: invalid_grant, description: e-mail or password is wrong" in shown.text
    assert [said for said in browser.complaints() if "/login - Failed to load resource" in said and "403" in said]


def test_redoc_shows_every_operation_and_loads_nothing_from_elsewhere(
    browser: Browser, server: Server, operations: list[tuple[str, str]]
) -> None:
    browser.driver.get(f"{server.address}/redoc")

    wait_for(browser, "[data-section-id^='tag/'] h2", many=len(operations))
    text = browser.driver.find_element(By.ID, "redoc").get_property("textContent")
    assert [path for _, path in operations if path not in text] == []
    loaded, blocked = browser.requests()
    assert {url.removeprefix(server.address).partition("/")[0] for url in loaded} == {""}
    assert blocked == set()
    assert browser.complaints() == []


FITS = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
LINK_COLOUR = "return getComputedStyle(document.querySelector('nav a')).color"


@pytest.mark.parametrize("path", ["/", "/problems", "/problems/validation"])
def test_pages_for_people_fit_a_phone_and_follow_the_colour_scheme(
    browser: Browser, server: Server, path: str, request: pytest.FixtureRequest
) -> None:
    driver = browser.driver
    request.addfinalizer(lambda: driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {}))
    request.addfinalizer(lambda: driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []}))
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    colours = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.get(f"{server.address}{path}")
        assert driver.execute_script("return getComputedStyle(document.body).fontFamily").startswith("system-ui")
        assert driver.execute_script(FITS)
        colours.append(driver.execute_script(LINK_COLOUR))
    assert colours == ["rgb(11, 92, 173)", "rgb(125, 183, 245)"]
    loaded, blocked = browser.requests()
    assert loaded == {f"{server.address}{path}"}
    assert blocked == set()
    assert browser.complaints() == []
