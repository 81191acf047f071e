"""The API as its OpenAPI document has it, and what every answer must be."""

import os
from collections.abc import Sequence
from itertools import count
from typing import Any

import httpx2
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from sqlalchemy import Engine, text

from tests.support.openapi import document_of

FEW_EXAMPLES = 3
EXAMPLES = int(os.environ.get("AGORA_FUZZ_EXAMPLES", FEW_EXAMPLES))
"""How many requests are made up for each place where something can be sent."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def fuzzing(examples: int = EXAMPLES) -> settings:
    """Make up the same requests in every run, however slow the machine is."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


DOCUMENT = document_of()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: Sequence[Any] = [
    SCHEMA[path][method.upper()] for path, item in DOCUMENT["paths"].items() for method in item
]


PASSWORD = "correct horse battery"


class FuzzUser:
    """A user with an account, a session and a post, who starts over when one of them was deleted."""

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
            "token": tokens["refresh_token"],
            "username": who["email"],
            "password": PASSWORD,
            "current_password": PASSWORD,
        }

    def _asked(self, method: str, path: str, **options: Any) -> Any:
        answer = self._client.request(method, path, headers=getattr(self, "_headers", None), **options)
        assert answer.is_success, answer.text
        return answer.json()


class FuzzWorld:
    """A server, and people who use it."""

    def __init__(self, client: httpx2.Client, engine: Engine) -> None:
        self.client = client
        self.address = str(client.base_url)
        self.people = {role: FuzzUser(client, engine, role) for role in ("user", "admin")}
