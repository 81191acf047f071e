"""Secrets are planted wherever something can be sent, and looked for in the most talkative log and in the metrics."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest
from sqlalchemy import URL, text

from infrastructure.database.engine import open_engine
from tests.support.backends import PostgresServer
from tests.support.preparations import log_everything
from tests.support.servers import Server, serving
from tests.support.wire import KEY, POST, Wire

MAIL, PASSWORD, WRONG_PASSWORD = "canary-mail@example.com", "canary-password", "canary-wrong-password"
TITLE, CONTENT, SEARCH, PATH, HEADER = (f"canary-{what}" for what in ("title", "content", "search", "path", "header"))
ANN = {"email": MAIL, "password": PASSWORD}

REFUSE = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON posts BEGIN SELECT RAISE(ABORT, 'canary-refusal'); END",
    "postgresql": "ALTER TABLE posts ADD CONSTRAINT refuse CHECK (id = 1)",
}
"""What makes the database refuse unexpectedly; PostgreSQL quotes the whole row as it does so."""

REFUSED = {"sqlite": "sqlalchemy.exc.IntegrityError", "postgresql": "psycopg2.errors.CheckViolation"}
"""What such a refusal is: on PostgreSQL, statements that are sent often go past SQLAlchemy."""


@contextmanager
def loud_server(url: URL) -> Iterator[Server]:
    with serving(
        url,
        prepare=log_everything,
        FASTAPI_ENV="production",
        LOG_LEVEL="DEBUG",
        METRICS="true",
        SECRET_KEY=KEY,
        ARGON2_MEMORY_KIB="8",
        ARGON2_TIME_COST="1",
    ) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def own_url(request: pytest.FixtureRequest, database_of: Callable[[str], URL]) -> Iterator[URL]:
    """A migrated database of each kind, to be broken."""
    if request.param == "sqlite":
        yield database_of("sqlite")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


def run_sql(url: URL, statement: str) -> None:
    engine = open_engine(url, connections=1)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


@contextmanager
def gone(url: URL) -> Iterator[None]:
    """Take a database of PostgreSQL away for a while."""
    elsewhere, name = url.set(database="postgres"), url.database
    run_sql(elsewhere, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    run_sql(elsewhere, f"ALTER DATABASE {name} RENAME TO {name}_gone")
    try:
        yield
    finally:
        run_sql(elsewhere, f"ALTER DATABASE {name}_gone RENAME TO {name}")


def use_everything(client: httpx2.Client, url: URL) -> list[str]:
    """Send secrets wherever something can be sent, through success and every kind of failure; tell those we got."""
    headers = {"X-Canary": HEADER, "Cookie": f"session={HEADER}", "User-Agent": HEADER}
    assert client.post("/users", json=ANN, headers=headers).status_code == 201
    tokens = client.post("/login", data={"username": MAIL, "password": PASSWORD}, headers=headers).json()
    signed_in = {"Authorization": f"Bearer {tokens['access_token']}", **headers}
    post = {"title": TITLE, "content": CONTENT}
    statuses = [
        client.post("/posts", json=post, headers=signed_in),
        client.get("/posts", params={"search": SEARCH}, headers=signed_in),
        client.put("/posts/1/vote", json={"dir": 1}, headers=signed_in),
        client.get("/users/me/export", headers=signed_in),
        client.post("/login", data={"username": MAIL, "password": WRONG_PASSWORD}),
        client.post("/login", data={"username": PASSWORD, "grant_type": PASSWORD}),
        client.post("/login", files={"password": (PASSWORD, PASSWORD, PASSWORD)}),
        client.post("/users", json=ANN),
        client.post("/posts", json={**post, "published": CONTENT}, headers=signed_in),
        client.post("/posts", content=f'{{"title": "{TITLE}'.encode(), headers=signed_in),
        client.post("/refresh", json={"refresh_token": tokens["refresh_token"] + "x"}),
        client.post("/refresh", data={"grant_type": PASSWORD, "refresh_token": tokens["refresh_token"]}),
        client.post("/logout", data={"token": WRONG_PASSWORD, "token_type_hint": PASSWORD}),
        client.get("/profile", headers={"Authorization": f"Bearer {tokens['access_token']}x"}),
        client.get(f"/{PATH}/{tokens['access_token']}", params={"token": tokens["access_token"]}),
        client.request("BREW", f"/{PATH}"),
    ]
    assert [answer.status_code for answer in statuses] == [
        201, 200, 200, 200, 403, 422, 422, 409, 422, 422, 401, 422, 200, 401, 404, 400
    ]  # fmt: skip
    run_sql(url, REFUSE[url.get_backend_name()])
    assert client.post("/posts", json=post, headers=signed_in).status_code == 500
    run_sql(url, "DROP TABLE votes")
    assert client.put("/posts/1/vote", json={"dir": -1}, headers=signed_in).status_code in {500, 503}
    return [tokens["access_token"], tokens["refresh_token"]]


def send_nonsense(port: int) -> None:
    with Wire(port) as wire:
        wire.send(b"GET /%s HTTP/9\r\n%s: \x00\r\n\r\n" % (PATH.encode(), HEADER.encode()))
        assert wire.answer().status == 400
    with Wire(port) as wire:
        wire.send(POST + b'Content-Length: 100\r\n\r\n{"password": "%s' % PASSWORD.encode())


def test_no_secret_is_in_the_log_or_the_metrics_whatever_happens(own_url: URL) -> None:
    with loud_server(own_url) as server:
        with httpx2.Client(base_url=server.address, timeout=30) as client:
            got = use_everything(client, own_url)
            send_nonsense(server.port)
            if own_url.get_backend_name() == "postgresql":
                with gone(own_url):
                    assert client.get("/profile", headers={"Authorization": f"Bearer {got[0]}"}).status_code == 503
            page = client.get("/metrics").text
        assert server.end() == 0

    planted = ["canary", KEY, *got, *([own_url.password[-8:]] if own_url.password else [])]  # its end needs no escaping
    assert [secret for secret in planted if secret in server.said or secret in page] == []
    assert 'route="/login",status="403"' in page
    lines = [json.loads(line) for line in server.said.splitlines()]
    assert {line["level"] for line in lines} >= {"debug", "info", "warning", "error"}
    assert any("INSERT INTO users" in line["event"] for line in lines), "SQL was not let out"
    signed_in = next(line for line in lines if line.get("action") == "sign-in")
    assert (signed_in["outcome"], signed_in["subject"], signed_in["client"]) == ("success", 1, "127.0.0.1")
    refused = REFUSED[own_url.get_backend_name()]
    assert any(refused in line.get("exception", "").splitlines() for line in lines), "no traceback was let out"
