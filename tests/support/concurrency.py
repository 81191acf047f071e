"""Calls in threads and coroutines that run at the same time."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from domain.errors import DomainError


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop do other things until the condition holds, of which nothing tells."""
    while not condition():  # noqa: ASYNC110 - as said
        await asyncio.sleep(0)


def all_at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the calls in threads, started together; return their results or errors."""
    start = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except DomainError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
