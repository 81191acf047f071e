"""OAuth2's libraries as clients: sign-in, failures, refresh and revocation against the real server."""

from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import httpx2
import pytest
import requests_oauthlib
from authlib.integrations import requests_client
from oauthlib.oauth2 import LegacyApplicationClient, OAuth2Error

from tests.support.servers import Server

PASSWORD = "correct horse battery"


@dataclass
class OAuthLibrary:
    """A library, behind the calls that both have in common."""

    session: Any
    refuses: Callable[[str], Any]
    """Expects its exception for an `error` of OAuth2."""
    address: str
    revoke: Callable[[str, str], Any]
    """Revokes a token of a kind, and returns the response."""

    def sign_in(self, email: str, password: str = PASSWORD) -> Any:
        return self.session.fetch_token(f"{self.address}/login", username=email, password=password)

    def refresh(self, token: str | None = None) -> Any:
        return self.session.refresh_token(f"{self.address}/refresh", refresh_token=token)

    def works(self, access_token: str) -> bool:
        headers = {"Authorization": f"Bearer {access_token}"}
        return httpx2.get(f"{self.address}/profile", headers=headers).status_code == 200


def authlib(address: str) -> OAuthLibrary:
    session = requests_client.OAuth2Session("any-client", token_endpoint=f"{address}/refresh")

    def refuses(error: str) -> Any:
        return pytest.raises(requests_client.OAuthError, match=f"^{error}: ")

    def revoke(token: str, kind: str) -> Any:
        return session.revoke_token(f"{address}/logout", token, kind)

    return OAuthLibrary(session, refuses, address, revoke)


def requests_oauth(address: str) -> OAuthLibrary:
    client = LegacyApplicationClient("any-client")
    refresh = {"auto_refresh_url": f"{address}/refresh", "token_updater": lambda _token: None}
    session = requests_oauthlib.OAuth2Session(client=client, **refresh)

    def refuses(error: str) -> Any:
        return pytest.raises(OAuth2Error, match=rf"^\({error}\) ")

    def revoke(token: str, kind: str) -> Any:
        url, headers, body = client.prepare_token_revocation_request(f"{address}/logout", token, kind)
        return session.post(url, body, headers=headers, withhold_token=True)

    return OAuthLibrary(session, refuses, address, revoke)


@pytest.fixture(params=[authlib, requests_oauth])
def library(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> OAuthLibrary:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # the server is on loopback
    made: OAuthLibrary = request.param(server.address)
    return made


@pytest.fixture
def email(server: Server) -> str:
    """The e-mail of an account."""
    account = {"email": f"{token_hex()}@example.com", "password": PASSWORD}
    assert httpx2.post(f"{server.address}/users", json=account).status_code == 201
    return account["email"]


def test_library_signs_in_and_sends_its_token(library: OAuthLibrary, email: str) -> None:
    token = library.sign_in(email)

    assert token["token_type"] == "bearer"
    assert library.session.get(f"{library.address}/profile").json()["email"] == email


def test_library_reports_a_refused_sign_in(library: OAuthLibrary, email: str) -> None:
    with library.refuses("invalid_grant"):
        library.sign_in(email, "a wrong password")

    assert not library.session.token


def test_library_refreshes_and_reports_a_spent_token(library: OAuthLibrary, email: str) -> None:
    first = dict(library.sign_in(email))
    second = dict(library.refresh())

    assert second["refresh_token"] != first["refresh_token"]
    assert library.session.get(f"{library.address}/profile").status_code == 200
    with library.refuses("invalid_grant"):
        library.refresh(first["refresh_token"])
    assert not library.works(second["access_token"])


def test_library_refreshes_an_expired_token_by_itself(library: OAuthLibrary, email: str) -> None:
    first = dict(library.sign_in(email))
    library.session.token = {**first, "expires_at": 1}

    assert library.session.get(f"{library.address}/profile").json()["email"] == email

    assert library.session.token["refresh_token"] != first["refresh_token"]


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_library_revokes_a_token(library: OAuthLibrary, email: str, kind: str) -> None:
    token = dict(library.sign_in(email))

    assert library.revoke(token[kind], kind).status_code == 200

    assert not library.works(token["access_token"])
    with library.refuses("invalid_grant"):
        library.refresh()
    assert library.revoke(token[kind], kind).status_code == 200
