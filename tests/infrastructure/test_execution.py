"""How use cases run without blocking the event loop: greenlets, threads, and limits on how much runs at once."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from threading import Event, get_ident
from typing import Any

import pytest
import uvloop
from greenlet import getcurrent
from sqlalchemy.util import await_only

from application.errors import Unavailable
from infrastructure.execution.greenlets import Executor, GreenletExecutor
from infrastructure.execution.limiter import Limiter
from infrastructure.execution.threads import ANY_TURN, LAST_WAITING, Turn, WorkerThreads
from tests.support.concurrency import until

PATIENCE_SECONDS = 20
LONG_SECONDS = 3_600.0

spoken: ContextVar[str] = ContextVar("spoken", default="nothing")

Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture
def on_loop() -> Iterator[Callable[[Main], None]]:
    """Run a coroutine on a loop of the server's kind, within a bound."""

    async def bounded(main: Main) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield lambda main: runner.run(bounded(main))


@pytest.fixture(params=["greenlets", "threads"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = GreenletExecutor() if request.param == "greenlets" else WorkerThreads(2, "no thread is free", LONG_SECONDS)
    yield made
    made.close()


# Executors.


def test_arguments_results_errors_and_context_pass_through(executor: Executor, on_loop: Callable[[Main], None]) -> None:
    def work(first: int, *, second: int) -> tuple[int, int, str]:
        if first == 0:
            raise KeyError(second)
        return first, second, spoken.get()

    async def main() -> None:
        spoken.set("hello")
        assert await executor.run(work, 1, second=2) == (1, 2, "hello")
        for _ in range(4):
            with pytest.raises(KeyError, match="7"):
                await executor.run(work, 0, second=7)
        assert await executor.run(work, 3, second=4) == (3, 4, "hello")

    on_loop(main)


def test_results_and_errors_are_freed_with_their_use_case(executor: Executor, on_loop: Callable[[Main], None]) -> None:
    class Found(Exception):
        pass

    def work(found: "list[weakref.ref[Found]]", *, fails: bool) -> Found:
        it = Found()
        found.append(weakref.ref(it))
        if fails:
            raise it
        return it

    async def main() -> None:
        found: list[weakref.ref[Found]] = []
        await executor.run(work, found, fails=False)
        with pytest.raises(Found):
            await executor.run(work, found, fails=True)
        assert len(found) == 2
        await until(lambda: gc.collect() >= 0 and all(reference() is None for reference in found))

    on_loop(main)


def test_only_threads_leave_the_loop(executor: Executor, on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        is_on_loop = await executor.run(get_ident) == get_ident()
        assert is_on_loop is isinstance(executor, GreenletExecutor)

    on_loop(main)


def test_errors_are_reported_to_the_caller_alone(executor: Executor, on_loop: Callable[[Main], None]) -> None:
    def fail() -> None:
        raise KeyError

    async def main() -> None:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
        with pytest.raises(KeyError):
            await executor.run(fail)
        for _ in range(3):  # turns of the loop, which would report by then
            await asyncio.sleep(0)
        gc.collect()
        assert reported == []

    on_loop(main)


def test_greenlets_are_pooled_and_see_the_context_of_their_request(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        executor, pooled, event = GreenletExecutor(), set(), asyncio.Event()

        def work(number: int) -> tuple[int, str]:
            pooled.add(getcurrent())
            await_only(asyncio.sleep(0))
            if number == 0:
                await_only(event.wait())
            return number, spoken.get()

        async def ask(number: int) -> tuple[int, str]:
            spoken.set(f"number {number}")
            return await executor.run(work, number)

        first = asyncio.create_task(ask(0))
        for number in range(1, 20):
            assert await asyncio.create_task(ask(number)) == (number, f"number {number}")
        event.set()
        assert await first == (0, "number 0")
        assert len(pooled) == 2

    on_loop(main)


def test_cancelled_use_case_hears_of_it_and_its_greenlet_is_pooled(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        executor, heard = GreenletExecutor(), []

        def work() -> None:
            try:
                await_only(asyncio.sleep(LONG_SECONDS))
            except asyncio.CancelledError as error:
                heard.append(error)
                raise

        task = asyncio.create_task(executor.run(work))
        await until(lambda: bool(asyncio.all_tasks() - {asyncio.current_task(), task}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(heard) == 1
        assert await executor.run(lambda: 7) == 7

    on_loop(main)


# Threads.


def test_greenlet_that_calls_a_thread_releases_the_loop(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        executor, threads, event = GreenletExecutor(), WorkerThreads(1, "no thread", LONG_SECONDS), Event()
        task = asyncio.create_task(executor.run(threads.call, ANY_TURN, event.wait, PATIENCE_SECONDS))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        assert await executor.run(lambda: "served meanwhile") == "served meanwhile"
        event.set()
        assert await task is True

    on_loop(main)


def test_no_more_threads_work_than_there_are(on_loop: Callable[[Main], None]) -> None:
    working: list[int] = []
    most: list[int] = []
    event = Event()

    def work() -> None:
        working.append(1)
        most.append(len(working))
        event.wait(PATIENCE_SECONDS)
        working.pop()

    async def main() -> None:
        executor, threads = GreenletExecutor(), WorkerThreads(2, "no thread", LONG_SECONDS)
        tasks = [asyncio.create_task(executor.run(threads.call, ANY_TURN, work)) for _ in range(6)]
        await until(lambda: len(working) == 2)
        await asyncio.sleep(0.01)
        assert len(working) == 2
        event.set()
        await asyncio.gather(*tasks)
        assert max(most) == 2

    on_loop(main)


@pytest.mark.parametrize("in_greenlet", [True, False])
def test_waiting_too_long_for_a_thread_is_unavailable(on_loop: Callable[[Main], None], in_greenlet: bool) -> None:
    async def main() -> None:
        executor, threads, event = GreenletExecutor(), WorkerThreads(1, "no thread is free", 0.02), Event()

        async def call(work: Callable[..., object], *args: object) -> object:
            if in_greenlet:
                return await executor.run(threads.call, ANY_TURN, work, *args)
            return await asyncio.to_thread(threads.call, ANY_TURN, work, *args)

        working = asyncio.create_task(call(event.wait, PATIENCE_SECONDS))
        await until(lambda: threads._pool._work_queue.empty() and len(threads._pool._threads) == 1)
        ran: list[int] = []
        with pytest.raises(Unavailable, match="no thread is free"):
            await call(ran.append, 1)
        event.set()
        assert await working is True  # it took longer than the wait for a thread may
        assert await call(len, ran) == 0

    on_loop(main)


def test_call_that_is_cancelled_while_it_waits_never_runs(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        executor, threads, event = GreenletExecutor(), WorkerThreads(1, "no thread", LONG_SECONDS), Event()
        working = asyncio.create_task(executor.run(threads.call, ANY_TURN, event.wait, PATIENCE_SECONDS))
        ran: list[int] = []
        waiting = asyncio.create_task(executor.run(threads.call, ANY_TURN, ran.append, 1))
        await until(lambda: threads._pool._work_queue.qsize() == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        event.set()
        await working
        assert await executor.run(threads.call, ANY_TURN, len, ran) == 0

    on_loop(main)


def test_closing_threads_drops_what_waits_for_one(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        threads, event = WorkerThreads(1, "no thread", LONG_SECONDS), Event()
        working = asyncio.create_task(threads.run(event.wait, PATIENCE_SECONDS))
        await until(lambda: len(threads._pool._threads) == 1)
        waiting = asyncio.create_task(threads.run(print))
        await until(lambda: threads._pool._work_queue.qsize() == 1)
        closing = asyncio.create_task(asyncio.to_thread(threads.close))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        event.set()
        await closing
        assert await working is True

    on_loop(main)


def finish_order(on_loop: Callable[[Main], None], turns: Sequence[Turn]) -> list[int]:
    """Give calls these turns while the thread is busy; return the order in which they ran."""
    ran: list[int] = []

    async def main() -> None:
        executor, threads, event = (
            GreenletExecutor(),
            WorkerThreads(1, "no thread", LONG_SECONDS),
            Event(),
        )
        busy = asyncio.create_task(threads.run(event.wait, PATIENCE_SECONDS))
        await until(lambda: threads._pool._work_queue.empty() and len(threads._pool._threads) == 1)
        waiting = []
        for number, turn in enumerate(turns):
            waiting.append(asyncio.create_task(executor.run(threads.call, turn, ran.append, number)))
            await until(lambda: threads._pool._work_queue.qsize() == len(waiting))
        event.set()
        await asyncio.gather(busy, *waiting)

    on_loop(main)
    return ran


def test_clients_have_threads_in_rotation(on_loop: Callable[[Main], None]) -> None:
    turns = [Turn("flood")] * 4 + [Turn("ann")] * 2 + [Turn("bob")]

    assert finish_order(on_loop, turns) == [0, 4, 6, 1, 5, 2, 3]


def test_last_clients_have_threads_after_all_others_in_rotation(on_loop: Callable[[Main], None]) -> None:
    turns = [Turn("guesser", is_last=True)] * 3 + [Turn("other", is_last=True), Turn("ann"), Turn("ann")]

    assert finish_order(on_loop, turns) == [4, 5, 0, 3, 1, 2]


def test_last_client_has_one_thread_at_a_time(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        executor, threads, event = GreenletExecutor(), WorkerThreads(2, "no thread", LONG_SECONDS), Event()
        guesser = Turn("guesser", is_last=True)
        started: list[int] = []

        def work(number: int) -> None:
            started.append(number)
            assert event.wait(PATIENCE_SECONDS)

        guesses = [asyncio.create_task(executor.run(threads.call, guesser, work, number)) for number in range(3)]
        await until(lambda: len(started) == 1)
        assert await executor.run(threads.call, Turn("ann"), lambda: "served meanwhile") == "served meanwhile"
        assert len(started) == 1
        event.set()
        await asyncio.gather(*guesses)
        assert started == [0, 1, 2]

    on_loop(main)


def test_few_callers_of_a_last_client_block(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        executor, threads, event = GreenletExecutor(), WorkerThreads(1, "no thread is free", LONG_SECONDS), Event()
        guesser = Turn("guesser", is_last=True)
        busy = asyncio.create_task(threads.run(event.wait, PATIENCE_SECONDS))
        await until(lambda: threads._pool._work_queue.empty() and len(threads._pool._threads) == 1)
        with ThreadPoolExecutor(LAST_WAITING + 1) as callers:
            waiting = [callers.submit(threads.call, guesser, str) for _ in range(LAST_WAITING)]
            await until(lambda: threads._pool._work_queue.qsize() == LAST_WAITING)
            with pytest.raises(Unavailable, match="no thread is free"):
                threads.call(guesser, str)
            released = asyncio.create_task(executor.run(threads.call, guesser, str))
            other = callers.submit(threads.call, Turn("other", is_last=True), str)
            await until(lambda: threads._pool._work_queue.qsize() == LAST_WAITING + 2)
            event.set()
            await asyncio.gather(busy, released, *map(asyncio.wrap_future, [*waiting, other]))

    on_loop(main)


# Limiters.


def test_limiter_passes_slots_on_in_fifo_order(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        limiter, acquired = Limiter(2, "no slot", LONG_SECONDS), []

        async def acquire(number: int) -> None:
            await limiter.acquire()
            acquired.append(number)

        tasks = [asyncio.create_task(acquire(number)) for number in range(5)]
        await until(lambda: len(acquired) >= 2)
        await asyncio.sleep(0)
        assert acquired == [0, 1]
        assert not limiter.try_acquire()
        for expected in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
            limiter.release()
            await until(lambda: acquired == expected)  # noqa: B023 - awaited in the loop's body
        await asyncio.gather(*tasks)
        limiter.release()
        limiter.release()
        assert limiter.try_acquire()
        assert limiter.try_acquire()
        assert not limiter.try_acquire()

    on_loop(main)


def test_clients_have_slots_in_rotation(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        limiter, acquired = Limiter(1, "no slot", LONG_SECONDS), []
        await limiter.acquire("flood")

        async def acquire(number: int, client: str | None) -> None:
            await limiter.acquire(client)
            acquired.append(number)
            limiter.release(client)

        clients = ["flood", "flood", "flood", "ann", "ann", None]
        tasks = [asyncio.create_task(acquire(number, client)) for number, client in enumerate(clients)]
        await asyncio.sleep(0)
        limiter.release("flood")
        await asyncio.gather(*tasks)
        assert acquired == [0, 3, 5, 1, 4, 2]
        assert limiter._queue._served == {}
        assert limiter.try_acquire()

    on_loop(main)


def test_client_has_at_most_its_share_of_the_slots(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        limiter = Limiter(4, "no slot", LONG_SECONDS, share=2)
        assert [limiter.try_acquire("flood") for _ in range(3)] == [True, True, False]
        waiting = asyncio.create_task(limiter.acquire("flood"))
        await asyncio.sleep(0)
        assert limiter.try_acquire("ann")
        limiter.release("ann")
        await asyncio.sleep(0)
        assert not waiting.done()
        limiter.release("flood")
        await waiting
        assert [limiter.try_acquire(None) for _ in range(3)] == [True, True, False]

    on_loop(main)


def test_waiting_too_long_for_a_slot_is_unavailable(on_loop: Callable[[Main], None]) -> None:
    async def main() -> None:
        limiter = Limiter(1, "no slot is free", 0.01)
        await limiter.acquire()
        for _ in range(3):
            with pytest.raises(Unavailable, match="no slot is free"):
                await limiter.acquire()
        limiter.release()
        await limiter.acquire()

    on_loop(main)


@pytest.mark.parametrize("moment", ["waiting", "acquired", "refused"])
def test_cancelled_waiter_neither_keeps_nor_makes_a_slot(on_loop: Callable[[Main], None], moment: str) -> None:
    async def main() -> None:
        limiter = Limiter(1, "no slot", LONG_SECONDS)
        await limiter.acquire()
        waiter = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        if moment == "acquired":
            limiter.release()
        elif moment == "refused":
            limiter._refuse(limiter._queue._queues[None][0])
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        if moment != "acquired":
            limiter.release()
        assert limiter.try_acquire()
        assert not limiter.try_acquire()

    on_loop(main)
