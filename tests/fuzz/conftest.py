"""The real server on a database of each kind, and people in it who start over whatever they do to themselves."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx2
import pytest
from sqlalchemy import URL, Engine, text

from infrastructure.database.engine import open_engine
from tests.fuzz.document import EXAMPLES
from tests.servers import serving

PASSWORD = "correct horse battery"
PATIENCE_SECONDS = 120 + 30 * EXAMPLES


class Person:
    """Somebody with an account, a session and a post, who starts over when one of them is gone."""

    def __init__(self, client: httpx2.Client, engine: Engine, role: str) -> None:
        self._client = client
        self._engine = engine
        self._role = role
        self._numbers = count()
        self._arrive()

    def headers(self) -> dict[str, str]:
        """Give the header that says who is asking, of a session that lives."""
        profile = self._client.get("/profile", headers=self._headers)
        post = self._client.get(f"/posts/{self.theirs['post_id']}", headers=self._headers)
        if {profile.status_code, post.status_code} != {200} or profile.json()["role"] != self._role:
            self._arrive()
        return self._headers

    def _arrive(self) -> None:
        who = {"email": f"{self._role}{next(self._numbers)}@example.com", "password": PASSWORD}
        user_id = self._asked("POST", "/users", json=who)["id"]
        with self._engine.begin() as connection:
            connection.execute(
                text("UPDATE users SET role = :role WHERE id = :id"), {"role": self._role, "id": user_id}
            )
        tokens = self._asked("POST", "/login", data={"username": who["email"], "password": PASSWORD})
        self._headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        post = self._asked("POST", "/posts", json={"title": "A title", "content": "Some content"})
        (session,) = self._asked("GET", "/users/me/sessions")
        self.theirs = {
            "user_id": user_id,
            "post_id": post["id"],
            "session_id": session["id"],
            "refresh_token": tokens["refresh_token"],
            "username": who["email"],
            "password": PASSWORD,
            "current_password": PASSWORD,
        }

    def _asked(self, method: str, path: str, **options: Any) -> Any:
        answer = self._client.request(method, path, headers=getattr(self, "_headers", None), **options)
        assert answer.is_success, answer.text
        return answer.json()


class World:
    """A server, and people who use it."""

    def __init__(self, client: httpx2.Client, engine: Engine) -> None:
        self.client = client
        self.address = str(client.base_url)
        self.people = {role: Person(client, engine, role) for role in ("user", "admin")}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, database_of: Callable[[str], URL]) -> Iterator[World]:
    """A server on each kind of database, which slows nobody down."""
    url = database_of(request.param)
    cheap: dict[str, Any] = {"THROTTLE": "false", "ARGON2_MEMORY_KIB": "8", "ARGON2_TIME_COST": "1"}
    engine = open_engine(url, connections=1)
    with serving(url, patience=PATIENCE_SECONDS, **cheap) as server:
        with httpx2.Client(base_url=server.address, timeout=30) as client:
            yield World(client, engine)
        assert server.end() == 0
        assert "Traceback" not in server.said
    engine.dispose()
