"""Refused sign-ins: what they hold while they wait for their budget of time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from sqlalchemy import URL
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from infrastructure.passwords import Argon2PasswordHasher
from tests.support.api import require_problem, running_api

PATIENCE_SECONDS = 30


class HeldTimer:
    """Waits until the test releases it."""

    def __init__(self) -> None:
        self.sleeping = Event()
        self.released = Event()

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeping.set()
        if in_greenlet():
            assert await_only(asyncio.to_thread(self.released.wait, PATIENCE_SECONDS))
        else:
            assert self.released.wait(PATIENCE_SECONDS)


def test_refusal_that_waits_holds_no_hasher_and_no_connection(url: URL) -> None:
    timer, hasher = HeldTimer(), Argon2PasswordHasher(8, 1, 1, threads=1)
    with (
        running_api(url, {"timer": timer, "hasher": hasher}, database_connections=1, throttle=True) as api,
        ThreadPoolExecutor(1) as threads,
    ):
        ann = api.person("ann")
        form = {"username": ann.email, "password": "a wrong guess"}
        refused = threads.submit(api.client.post, "/login", data=form)
        try:
            assert timer.sleeping.wait(PATIENCE_SECONDS)
            ann.sign_in()
            assert ann("GET", "/profile").status_code == 200
            assert not refused.done()
        finally:
            timer.released.set()
        require_problem(refused.result(), "invalid-credentials")
