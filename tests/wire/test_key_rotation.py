"""The steps of docs/keys.md, taken while clients use the service: none is refused."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Condition, Event, Thread
from typing import Any, Self

import httpx2
import pytest
from sqlalchemy import URL

from tests.support.servers import Server
from tests.support.wire import quick

ACCOUNT = {"email": "ann@example.com", "password": "Ann's password"}
FORM = {"username": ACCOUNT["email"], "password": ACCOUNT["password"]}
VISITOR = {"email": "bob@example.com", "password": "Bob's password"}
"""Signs in again and again: beyond 100 sessions the idlest one of an account ends."""
CLIENTS = 2
PAUSE_SECONDS = 0.05
ATTEMPTS = 10
OLD, NEW = secrets.token_hex(32), secrets.token_hex(32)


class Fleet:
    """Two servers on one database. A client of one that is just being restarted is sent to the other."""

    def __init__(self, database: URL, key: str) -> None:
        self._database = database
        self._key = key
        self._stacks = [ExitStack(), ExitStack()]
        self._servers: list[Server] = []
        self._client = httpx2.Client(timeout=30)

    def __enter__(self) -> Self:
        for stack in self._stacks:
            self._servers.append(stack.enter_context(quick(self._database, key=self._key)))
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()
        for stack in self._stacks:
            stack.close()

    def restart(self, which: int, key: str, previous_key: str = "") -> None:
        """Restart one server with other keys."""
        assert self._servers[which].end() == 0
        self._stacks[which].close()
        self._servers[which] = self._stacks[which].enter_context(
            quick(self._database, key=key, previous_key=previous_key)
        )

    def ask(self, which: int, method: str, path: str, **options: Any) -> httpx2.Response:
        """Ask a server, or the other one while it is restarted."""
        for attempt in range(ATTEMPTS):
            server = self._servers[(which + attempt) % 2]
            try:
                return self._client.request(method, server.address + path, **options)
            except httpx2.TransportError:
                continue
        pytest.fail("neither server listens")

    def token(self, which: int, account: dict[str, str] = ACCOUNT) -> str:
        """Sign in at a server."""
        form = {"username": account["email"], "password": account["password"]}
        answer = self.ask(which, "POST", "/login", data=form)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def status(self, which: int, token: str) -> int:
        """Tell what a server makes of a token."""
        return self.ask(which, "GET", "/profile", headers={"Authorization": f"Bearer {token}"}).status_code


class Client:
    """A user with tokens, who signs in again and again: both servers are asked about each token at once."""

    def __init__(self, fleet: Fleet, tokens: list[str]) -> None:
        self.seen = Counter[int]()
        self.failure: BaseException | None = None
        self._fleet = fleet
        self._tokens = tokens
        self._turns = 0
        self._changed = Condition()
        self._has_to_end = Event()
        self._thread = Thread(target=self._work)
        self._thread.start()

    def end(self) -> None:
        self._has_to_end.set()
        self._thread.join()

    def wait_for_turns(self, turns: int) -> None:
        """Wait until this many more rounds were begun and ended."""
        with self._changed:
            enough = self._turns + turns + 1  # one is under way
            self._changed.wait_for(lambda: self._turns >= enough or self.failure)

    def _work(self) -> None:
        try:
            while not self._has_to_end.wait(PAUSE_SECONDS):
                fresh = self._fleet.token(self._turns % 2, VISITOR)
                for token in (fresh, *self._tokens):
                    self.seen.update(self._fleet.status(which, token) for which in (1, 0))
                with self._changed:
                    self._turns += 1
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self.failure = error
                self._changed.notify_all()
            raise


@contextmanager
def under_load(fleet: Fleet, tokens: list[str]) -> Iterator[Callable[[], None]]:
    """Keep clients busy, require that none is refused, and yield a function that completes a round."""
    clients = [Client(fleet, tokens) for _ in range(CLIENTS)]

    def let_all_go_round() -> None:
        for client in clients:
            client.wait_for_turns(2)

    try:
        let_all_go_round()
        yield let_all_go_round
    finally:
        for client in clients:
            client.end()
    for client in clients:
        assert client.failure is None
        assert client.seen.keys() == {200}


def test_a_key_is_rotated_under_load_and_no_request_is_refused(database_of: Callable[[str], URL]) -> None:
    with Fleet(database_of("postgres"), OLD) as fleet:
        for account in (ACCOUNT, VISITOR):
            assert fleet.ask(0, "POST", "/users", json=account).status_code == 201
        old_token = fleet.token(0)
        refresh_token = fleet.ask(0, "POST", "/login", data=FORM).json()["refresh_token"]

        with under_load(fleet, [old_token]) as let_all_go_round:
            for key, previous_key in ((OLD, NEW), (NEW, OLD)):
                for which in (0, 1):
                    fleet.restart(which, key, previous_key)
                    let_all_go_round()
        new_tokens = [fleet.token(which) for which in (0, 1)]

        # By now every token that the old key signed has expired.
        with under_load(fleet, new_tokens) as let_all_go_round:
            for which in (0, 1):
                fleet.restart(which, NEW)
                let_all_go_round()
        assert [fleet.status(which, old_token) for which in (0, 1)] == [401, 401]
        assert fleet.ask(0, "POST", "/refresh", json={"refresh_token": refresh_token}).status_code == 200


def test_a_key_that_the_other_server_does_not_know_yet_is_refused_there(database_of: Callable[[str], URL]) -> None:
    with Fleet(database_of("sqlite"), OLD) as fleet:
        assert fleet.ask(0, "POST", "/users", json=ACCOUNT).status_code == 201
        fleet.restart(0, NEW, OLD)

        token = fleet.token(0)

        assert [fleet.status(which, token) for which in (0, 1)] == [200, 401]
