"""Where use cases run while requests are served: how many at once, how long they wait for that, and what is left."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from threading import Event, get_ident
from typing import Any, Protocol

import pytest
import uvloop
from greenlet import getcurrent
from psycopg2.extensions import get_wait_callback
from sqlalchemy.util import await_only

from application.errors import Unavailable
from infrastructure.database.waiting import wait
from infrastructure.runners import LoopRunner, Queues, Runner, ThreadRunner
from tests.infrastructure.conftest import until

PATIENCE_SECONDS = 20
TURNS = 2

said: ContextVar[str] = ContextVar("said", default="nothing")


class Gate(Protocol):
    """Something that use cases wait for."""

    def wait(self) -> object: ...

    def open(self) -> None: ...


class LoopGate:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wait(self) -> object:
        return await_only(self._event.wait())

    def open(self) -> None:
        self._event.set()


class ThreadGate:
    def __init__(self) -> None:
        self._event = Event()

    def wait(self) -> object:
        return self._event.wait(PATIENCE_SECONDS)

    def open(self) -> None:
        self._event.set()


class Stage:
    """A runner of one kind, and the use cases that are at work in it."""

    def __init__(self, runner: Runner, gate: Callable[[], Gate]) -> None:
        self.runner = runner
        self.gate = gate
        self.at_work = 0
        self.most = 0

    def work(self, gate: Gate, result: object = None) -> object:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        gate.wait()
        self.at_work -= 1
        return result

    def start(self, gate: Gate, times: int) -> "list[asyncio.Task[object]]":
        return [asyncio.create_task(self.runner.run(self.work, gate, number)) for number in range(times)]

    async def see_at_work(self, number: int) -> None:
        await until(lambda: self.at_work == number)


Play = Callable[[Stage], Coroutine[Any, Any, None]]


@pytest.fixture(params=[(LoopRunner, LoopGate), (ThreadRunner, ThreadGate)], ids=["loop", "threads"])
def on_stage(request: pytest.FixtureRequest) -> Iterator[Callable[[Play], None]]:
    """Run something with a runner of each kind that has two turns; nothing in it may take for ever."""
    kind, gate = request.param

    async def bounded(play: Play) -> None:
        runner = kind(TURNS, "no turn is free")
        runner.start()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await play(Stage(runner, gate))
        finally:
            runner.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        yield lambda play: loop.run(bounded(play))


def test_what_a_use_case_is_told_and_gives_and_raises_passes_through(on_stage: Callable[[Play], None]) -> None:
    def work(first: int, *, second: int) -> tuple[int, int, str]:
        if first == 0:
            raise KeyError(second)
        return first, second, said.get()

    async def play(stage: Stage) -> None:
        said.set("hello")
        assert await stage.runner.run(work, 1, second=2) == (1, 2, "hello")
        for _ in range(2 * TURNS):  # each gives its turn back
            with pytest.raises(KeyError, match="7"):
                await stage.runner.run(work, 0, second=7)
        assert await stage.runner.run(work, 3, second=4) == (3, 4, "hello")

    on_stage(play)


def test_never_more_are_at_work_than_there_are_turns_and_the_others_follow(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: Stage) -> None:
        gate = stage.gate()
        tasks = stage.start(gate, 5 * TURNS)
        await stage.see_at_work(TURNS)
        for _ in range(10):
            await asyncio.sleep(0)
        assert stage.at_work == TURNS
        gate.open()
        assert await asyncio.gather(*tasks) == list(range(5 * TURNS))
        assert stage.most == TURNS

    on_stage(play)


def test_who_waits_too_long_for_a_turn_is_refused_and_the_next_one_works(
    on_stage: Callable[[Play], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrastructure.runners.WAIT_SECONDS", 0.02)

    async def play(stage: Stage) -> None:
        gate = stage.gate()
        holding = stage.start(gate, TURNS)
        await stage.see_at_work(TURNS)
        refused = await asyncio.gather(*stage.start(gate, 5), return_exceptions=True)
        assert [str(one) for one in refused if isinstance(one, Unavailable)] == ["no turn is free"] * 5
        assert stage.at_work == TURNS
        gate.open()
        await asyncio.gather(*holding)

        assert await asyncio.gather(*stage.start(gate, TURNS)) == list(range(TURNS))

    on_stage(play)


def test_who_gives_up_waiting_takes_no_turn_along(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: Stage) -> None:
        gate = stage.gate()
        holding = stage.start(gate, TURNS)
        await stage.see_at_work(TURNS)
        waiting = stage.start(gate, 3)
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert all(task.cancelled() for task in waiting)
        gate.open()
        await asyncio.gather(*holding)

        fresh = stage.gate()
        again = stage.start(fresh, TURNS)
        await stage.see_at_work(TURNS)
        fresh.open()
        await asyncio.gather(*again)

    on_stage(play)


def test_who_gives_up_when_they_are_refused_gives_no_turn_back_that_they_never_had(
    on_stage: Callable[[Play], None],
) -> None:
    async def play(stage: Stage) -> None:
        gate = stage.gate()
        holding = stage.start(gate, TURNS)
        await stage.see_at_work(TURNS)
        (late,) = stage.start(gate, 1)
        await asyncio.sleep(0)
        turns = stage.runner._turns  # type: ignore[attr-defined]
        turns._refuse(turns._queue[0])
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)

        more = stage.start(gate, TURNS)
        for _ in range(10):
            await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*holding, *more)
        assert stage.most == TURNS

    on_stage(play)


def test_a_use_case_that_is_cancelled_at_work_gives_its_turn_back(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: Stage) -> None:
        gate = stage.gate()
        holding = stage.start(gate, TURNS)
        await stage.see_at_work(TURNS)
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        assert all(task.cancelled() for task in holding)
        gate.open()

        assert await asyncio.gather(*stage.start(gate, 2 * TURNS)) == list(range(2 * TURNS))

    on_stage(play)


def test_who_waits_for_a_thread_that_is_still_at_work_is_not_waited_for_at_the_end() -> None:
    async def main() -> None:
        runner, gate = ThreadRunner(1, "-"), ThreadGate()
        runner.start()
        stage = Stage(runner, ThreadGate)
        (given_up,) = stage.start(gate, 1)
        await stage.see_at_work(1)
        given_up.cancel()  # the thread works on
        (waiting,) = stage.start(gate, 1)
        await until(given_up.done)
        await until(lambda: runner._pool._work_queue.qsize() > 0)
        ended = asyncio.create_task(asyncio.to_thread(runner.stop))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open()
        await ended

    asyncio.run(main())


def test_what_a_use_case_gave_or_raised_is_forgotten_with_it(on_stage: Callable[[Play], None]) -> None:
    class Found(Exception):
        pass

    def work(found: list["weakref.ref[Found]"], *, fails: bool) -> Found:
        it = Found()
        found.append(weakref.ref(it))
        if fails:
            raise it
        return it

    async def play(stage: Stage) -> None:
        found: list[weakref.ref[Found]] = []
        await stage.runner.run(work, found, fails=False)
        with pytest.raises(Found):
            await stage.runner.run(work, found, fails=True)
        await asyncio.sleep(0)
        assert [reference() for reference in found[:1]] == [None]
        gc.collect()
        assert [reference() for reference in found] == [None, None]

    on_stage(play)


def test_use_cases_on_the_loop_share_their_greenlets_and_see_their_own_context() -> None:
    async def main() -> None:
        runner = LoopRunner(TURNS, "-")
        runner.start()
        hosts: set[object] = set()
        event = asyncio.Event()

        def work(number: int) -> tuple[int, str]:
            hosts.add(getcurrent())
            await_only(asyncio.sleep(0))
            if number == 0:
                await_only(event.wait())
            return number, said.get()

        async def ask(number: int) -> tuple[int, str]:
            said.set(f"number {number}")
            return await runner.run(work, number)

        tasks = [asyncio.create_task(ask(number)) for number in range(20)]
        await until(lambda: sum(task.done() for task in tasks) == len(tasks) - 1)
        event.set()
        assert await asyncio.gather(*tasks) == [(number, f"number {number}") for number in range(20)]
        assert len(hosts) == TURNS
        runner.stop()

    asyncio.run(main())


def test_only_threads_leave_the_loop(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: Stage) -> None:
        is_on_the_loop = await stage.runner.run(get_ident) == get_ident()
        assert is_on_the_loop is isinstance(stage.runner, LoopRunner)

    on_stage(play)


def test_psycopg2_waits_in_its_own_way_again_when_the_last_api_has_stopped() -> None:
    async def main() -> None:
        first, second = LoopRunner(1, "-"), LoopRunner(1, "-")
        assert get_wait_callback() is None
        for runner in (first, second):
            runner.start()
            assert get_wait_callback() is wait
        first.stop()
        assert get_wait_callback() is wait
        second.stop()
        assert get_wait_callback() is None

    asyncio.run(main())


# Queues.


def test_those_who_share_a_key_wait_for_each_other_and_for_nobody_else(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: Stage) -> None:
        queues, gate, other = Queues(stage.runner, "too many"), stage.gate(), stage.gate()
        monopoly = Queues(stage.runner, "too many")
        monopoly.AT_ONCE = 1  # type: ignore[misc]
        alike = [asyncio.create_task(monopoly.run(7, stage.work, gate, number)) for number in range(5)]
        await stage.see_at_work(1)
        for _ in range(10):
            await asyncio.sleep(0)
        assert stage.at_work == 1
        different = asyncio.create_task(monopoly.run(8, stage.work, other, "other"))
        await stage.see_at_work(2)
        other.open()
        assert await different == "other"
        gate.open()
        assert await asyncio.gather(*alike) == list(range(5))
        assert monopoly._queues == queues._queues == {}

    on_stage(play)


def test_who_fails_or_gives_up_in_a_queue_leaves_it(on_stage: Callable[[Play], None]) -> None:
    def fail() -> None:
        raise KeyError

    async def play(stage: Stage) -> None:
        queues, gate = Queues(stage.runner, "too many"), stage.gate()
        with pytest.raises(KeyError):
            await queues.run(7, fail)
        tasks = [asyncio.create_task(queues.run(7, stage.work, gate)) for _ in range(4)]
        await stage.see_at_work(TURNS)
        for task in tasks[2:]:
            task.cancel()
        gate.open()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.cancelled() for task in tasks] == [False, False, True, True]
        assert queues._queues == {}

    on_stage(play)


def test_who_waits_too_long_in_a_queue_is_refused(
    on_stage: Callable[[Play], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrastructure.runners.WAIT_SECONDS", 0.02)

    async def play(stage: Stage) -> None:
        queues, gate = Queues(stage.runner, "too many on one post"), stage.gate()
        tasks = [asyncio.create_task(queues.run(7, stage.work, gate)) for _ in range(TURNS)]
        await stage.see_at_work(TURNS)
        with pytest.raises(Unavailable, match="too many on one post"):
            await queues.run(7, stage.work, gate)
        gate.open()
        await asyncio.gather(*tasks)

    on_stage(play)
