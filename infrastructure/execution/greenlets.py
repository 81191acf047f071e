"""Runs synchronous use cases in greenlets, which release the event loop to wait."""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

P = ParamSpec("P")
T = TypeVar("T")


class Executor(Protocol):
    """Runs use cases without blocking the event loop."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one, and return its result or raise its error."""
        ...

    def close(self) -> None:
        """Release what running takes."""
        ...


class _Result:
    """What a use case returned, or what it raised."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


class _PooledGreenlet(greenlet):  # type: ignore[misc]  # it has no types
    """A greenlet that runs one use case after another.

    Creating a greenlet allocates memory from the operating system, so they are pooled.

    SQLAlchemy's `await_only` works in it as in SQLAlchemy's own, which end with what they run.
    """

    __sqlalchemy_greenlet_provider__ = True

    def run(self, work: Callable[[], object]) -> None:
        """Run each piece of work that is switched in, and switch its result out."""
        while True:
            try:
                result = _Result(work())
            except GreenletExit:  # the greenlet is being collected
                raise
            except BaseException as error:  # noqa: BLE001 - the caller of `run` raises it
                result = _Result(None, error)
            del work  # and what it refers to
            work = self.parent.switch(result)


class GreenletExecutor:
    """Runs each use case in a greenlet on the event loop.

    Connections and threads that use cases acquire limit how many run concurrently.
    """

    def __init__(self) -> None:
        self._idle: list[_PooledGreenlet] = []

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one on the loop."""
        # In a task of its own: a greenlet keeps the C stack above it, and that of a request is deep.
        return await asyncio.get_running_loop().create_task(self._run(partial(work, *args, **kwargs)))

    def close(self) -> None:
        """Release the pooled greenlets."""
        self._idle.clear()

    async def _run(self, work: Callable[[], T]) -> T:
        pooled = self._idle.pop() if self._idle else _PooledGreenlet()
        pooled.gr_context = getcurrent().gr_context
        given = pooled.switch(work)
        while given.__class__ is not _Result:  # an awaitable that the use case waits for
            try:
                value = await given
            except BaseException:  # noqa: BLE001 - thrown into the use case, cancellation included
                given = pooled.throw(*sys.exc_info())
            else:
                given = pooled.switch(value)
        self._idle.append(pooled)
        found: T
        found, error = given.value, given.error
        given.value = given.error = None  # the greenlet still refers to its latest result
        if error is None:
            return found
        try:
            raise error
        finally:
            del error  # its traceback begins in this frame: a reference cycle otherwise
