"""Where use cases run while requests are served: in turn, and it is seen who waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from application.errors import Unavailable
from infrastructure.runners import LoopRunner, Runner, ThreadRunner
from tests.fakes.services import CountingSpan

both = pytest.mark.parametrize("kind", [LoopRunner, ThreadRunner])


@asynccontextmanager
async def busy(
    kind: type[LoopRunner | ThreadRunner], waiting: CountingSpan
) -> AsyncIterator[tuple[Runner, asyncio.TaskGroup]]:
    """Lend a runner whose one turn is taken, and a group of tasks that end before it stops."""
    runner = kind(1, "too many are at work", waiting)
    at_work, go_on, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    async def let_go() -> None:
        at_work.set()
        await go_on.wait()

    def work() -> None:
        if in_greenlet():
            await_only(let_go())
        else:
            asyncio.run_coroutine_threadsafe(let_go(), loop).result()

    runner.start()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(runner.run(work))
        await at_work.wait()
        try:
            yield runner, tasks
        finally:
            go_on.set()
    runner.stop()


@both
def test_it_is_seen_who_waits_for_a_turn(kind: type[LoopRunner | ThreadRunner]) -> None:
    waiting = CountingSpan()

    async def wait() -> str:
        async with busy(kind, waiting) as (runner, tasks):
            assert waiting.entered == 0
            other = tasks.create_task(runner.run(str, "done"))
            await asyncio.to_thread(waiting.wait_for, 1)
        return other.result()

    assert asyncio.run(wait()) == "done"
    assert (waiting.inside, waiting.entered) == (0, 1)


@both
def test_who_waits_too_long_is_sent_away(
    kind: type[LoopRunner | ThreadRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrastructure.runners.WAIT_SECONDS", 0.01)
    waiting = CountingSpan()

    async def wait() -> None:
        async with busy(kind, waiting) as (runner, _):
            with pytest.raises(Unavailable, match="too many are at work"):
                await runner.run(str)

    asyncio.run(wait())
    assert (waiting.inside, waiting.entered) == (0, 1)
