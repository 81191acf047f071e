"""Group commit: which commands share a transaction, and what each returns."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from application.errors import RowLocked, TransactionAborted, Unavailable
from domain.posts import PostNotFound
from domain.users import InvalidToken
from infrastructure.execution.deadline import start_deadline
from infrastructure.execution.group_commit import (
    APART_MAX,
    APART_SECONDS,
    COMMANDS_MAX,
    LOCKED_ROWS_MAX,
    Group,
    GroupCommit,
)
from infrastructure.timeouts import Timeouts

IN_FLIGHT = 2
T = TypeVar("T")


@dataclass(frozen=True)
class Add:
    """A command that returns its number; one of row None locks nothing."""

    number: int
    row: int | None = None

    @property
    def account(self) -> int:
        """Each thousand numbers are of one account."""
        return self.number // 1_000


class Plain:
    """Runs work on the loop; each piece waits for the gate that it names."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def run(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        await self.gate.wait()
        return work(*args, **kwargs)

    def close(self) -> None:
        """Close nothing."""


@dataclass
class Ledger:
    """Stores the numbers of commands, and notes each transaction."""

    refused: set[int] = field(default_factory=set)
    """Each is refused alone."""
    forbidden: set[int] = field(default_factory=set)
    """A constraint refuses the transaction of each."""
    locked: set[int] = field(default_factory=set)
    aborts: int = 0
    """How many transactions are aborted first."""
    groups: list[list[int]] = field(default_factory=list)

    def add(self, number: int, row: int | None = None) -> int:
        """Stand for the form for one, which is not run itself."""
        raise AssertionError((number, row))

    def add_all(self, commands: Sequence[Add]) -> Sequence[int | Exception]:
        """Add without waiting."""
        if self.aborts:
            self.aborts -= 1
            raise TransactionAborted("a deadlock")
        if self.locked and {command.row for command in commands} <= self.locked:
            raise TransactionAborted("the only row is locked")
        return self._add([command for command in commands if command.row not in self.locked], commands)

    def add_all_waiting(self, commands: Sequence[Add]) -> Sequence[int | Exception]:
        """Add, and wait for locked rows."""
        return self._add(commands, commands)

    def _add(self, free: Sequence[Add], commands: Sequence[Add]) -> Sequence[int | Exception]:
        self.groups.append([command.number for command in commands])
        if self.forbidden & {command.number for command in free}:
            raise InvalidToken
        return [
            RowLocked("locked")
            if command not in free
            else PostNotFound(command.number)
            if command.number in self.refused
            else command.number
            for command in commands
        ]


class Committing:
    """A group commit over a ledger."""

    def __init__(self, ledger: Ledger, timeouts: Timeouts | None = None) -> None:
        self.ledger = ledger
        self.executor = Plain()
        group = Group(Add, ledger.add_all, ledger.add_all_waiting)
        self.add = ledger.add
        self.commit = GroupCommit(self.executor, {self.add: group}, timeouts or Timeouts(), IN_FLIGHT)

    async def results(self, *commands: Add) -> list[Any]:
        """Give all commands at once, then let transactions run."""
        tasks = [asyncio.create_task(self.commit.run(self.add, each.number, each.row)) for each in commands]
        for _ in range(10):
            await asyncio.sleep(0)
        self.executor.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


def run(main: Coroutine[Any, Any, T]) -> T:
    return Context().run(asyncio.run, asyncio.wait_for(main, 60))


def test_commands_that_meet_share_a_transaction() -> None:
    ledger = Ledger()

    async def main() -> list[Any]:
        return await Committing(ledger).results(*(Add(number) for number in range(20)))

    assert run(main()) == list(range(20))
    assert ledger.groups == [[0], list(range(1, 20))]


def test_command_that_is_alone_waits_for_no_other() -> None:
    ledger = Ledger()

    async def main() -> list[Any]:
        site = Committing(ledger)
        site.executor.gate.set()
        return [await site.commit.run(site.add, number) for number in range(3)]

    assert run(main()) == [0, 1, 2]
    assert ledger.groups == [[0], [1], [2]]


def test_group_is_bounded() -> None:
    ledger = Ledger()

    async def main() -> list[Any]:
        return await Committing(ledger).results(*(Add(number) for number in range(3 * COMMANDS_MAX)))

    assert run(main()) == list(range(3 * COMMANDS_MAX))
    assert [len(group) for group in ledger.groups] == [1, COMMANDS_MAX, COMMANDS_MAX, COMMANDS_MAX - 1]


def test_few_transactions_are_at_work_at_once() -> None:
    ledger = Ledger()

    async def main() -> None:
        site = Committing(ledger)
        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(site.commit.run(site.add, number)))
            for _ in range(5):
                await asyncio.sleep(0)
        site.executor.gate.set()
        await asyncio.gather(*tasks)

    run(main())

    assert ledger.groups == [[0], [1], [2, 3, 4, 5]]


def test_other_work_runs_by_itself() -> None:
    async def main() -> int:
        site = Committing(Ledger())
        site.executor.gate.set()
        return await site.commit.run(lambda: 7)

    assert run(main()) == 7


def test_refused_command_is_refused_alone() -> None:
    ledger = Ledger(refused={2})

    async def main() -> list[Any]:
        return await Committing(ledger).results(*(Add(number) for number in range(4)))

    results = run(main())

    assert isinstance(results.pop(2), PostNotFound)
    assert results == [0, 1, 3]
    assert ledger.groups == [[0], [1, 2, 3]]


def test_where_a_constraint_refuses_the_group_each_command_runs_alone() -> None:
    ledger = Ledger(forbidden={2})

    async def main() -> list[Any]:
        return await Committing(ledger).results(*(Add(number) for number in range(4)))

    results = run(main())

    assert isinstance(results.pop(2), InvalidToken)
    assert results == [0, 1, 3]
    assert ledger.groups == [[0], [1, 2, 3], [1], [2], [3]]


def test_account_that_failed_a_transaction_shares_none_for_a_while() -> None:
    ledger = Ledger(forbidden={1_000, 1_001})
    rounds: list[list[list[int]]] = []

    async def main() -> None:
        site = Committing(ledger)
        await site.results(Add(0), Add(1), Add(1_000))
        for at_once in (2, 1_001, 3, 4), (5, 1_002, 6):
            ledger.groups.clear()
            site.executor.gate.clear()
            await site.results(*map(Add, at_once))
            rounds.append(ledger.groups[:])
            (kind,) = site.commit._kinds.values()
            kind._apart[1] -= APART_SECONDS

    run(main())

    assert [sorted(found) for found in rounds] == [[[2], [3, 4], [1_001]], [[5], [1_002, 6]]]


def test_accounts_that_share_no_transaction_are_bounded() -> None:
    ledger = Ledger(forbidden={1_000 * account for account in range(APART_MAX + 2)})

    async def main() -> list[int]:
        site = Committing(ledger)
        await site.results(*(Add(1_000 * account) for account in range(APART_MAX + 2)))
        (kind,) = site.commit._kinds.values()
        return list(kind._apart)

    assert run(main()) == list(range(2, APART_MAX + 2))


@pytest.mark.parametrize("row", [None, 7])
def test_commands_of_an_aborted_group_run_again(row: int | None) -> None:
    ledger = Ledger(aborts=2)

    async def main() -> list[Any]:
        return await Committing(ledger).results(*(Add(number, row) for number in range(4)))

    results = run(main())

    assert results[1:] == [1, 2, 3]
    # Without a row, the command that was alone is left to the retries of its own request.
    assert isinstance(results[0], TransactionAborted) if row is None else results[0] == 0


def test_unknown_outcome_is_told_to_the_whole_group_and_not_run_again() -> None:
    class Lost(Ledger):
        def add_all(self, commands: Sequence[Add]) -> Sequence[int | Exception]:
            self._add(commands, commands)
            raise Unavailable("the connection was lost")

    ledger = Lost()

    async def main() -> list[Any]:
        return await Committing(ledger).results(*(Add(number, 7) for number in range(4)))

    assert [str(result) for result in run(main())] == ["the connection was lost"] * 4
    assert ledger.groups == [[0], [1, 2, 3]]


def test_locked_row_delays_its_own_commands_only() -> None:
    ledger = Ledger(locked={7})

    async def main() -> list[Any]:
        return await Committing(ledger).results(*(Add(number, 7 if number % 2 else 8) for number in range(8)))

    assert run(main()) == list(range(8))
    # The second group skips row 7, whose commands then run together.
    assert ledger.groups == [[0], [1, 2, 3, 4, 5, 6, 7], [1, 3, 5, 7]]


def test_commands_on_many_locked_rows_hold_few_connections() -> None:
    ledger, most = Ledger(locked=set(range(20))), 0

    async def main() -> None:
        nonlocal most
        site = Committing(ledger)
        at_work, run_plain = 0, site.executor.run

        async def counted(work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            nonlocal at_work, most
            at_work += work == ledger.add_all_waiting
            most = max(most, at_work)
            try:
                for _ in range(10):
                    await asyncio.sleep(0)
                return await run_plain(work, *args, **kwargs)
            finally:
                at_work -= work == ledger.add_all_waiting

        site.executor.run = counted  # type: ignore[method-assign]
        assert await site.results(*(Add(number, number) for number in range(20))) == list(range(20))
        (kind,) = site.commit._kinds.values()
        await asyncio.sleep(0)
        assert kind._locked == {}

    run(main())

    assert most == LOCKED_ROWS_MAX


def test_late_command_is_refused_and_the_others_are_not() -> None:
    async def in_a_hurry(site: Committing) -> Any:
        start_deadline(0.01)
        return await site.commit.run(site.add, 3)

    async def main() -> list[Any]:
        site = Committing(Ledger())
        first = asyncio.create_task(site.commit.run(site.add, 0))
        tasks = [asyncio.create_task(site.commit.run(site.add, number)) for number in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="does not respond"):
            await asyncio.create_task(in_a_hurry(site))
        site.executor.gate.set()
        return list(await asyncio.gather(first, *tasks))

    assert run(main()) == [0, 1, 2]


def test_waiting_commands_are_refused_at_the_end() -> None:
    async def main() -> list[Any]:
        site = Committing(Ledger())
        tasks = [asyncio.create_task(site.commit.run(site.add, number)) for number in range(4)]
        for _ in range(10):
            await asyncio.sleep(0)
        tasks.pop(0).cancel()
        site.commit.close()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    assert {str(result) for result in run(main())} == {"the server is stopping; try again"}


def test_locked_row_is_forgotten_when_its_commands_give_up() -> None:
    async def main() -> dict[int, Any]:
        site = Committing(Ledger(locked={7}))
        (kind,) = site.commit._kinds.values()
        kind._locked[7] = kind._batches(kind._send_waiting, 1, lambda: kind._locked.pop(7))
        task = asyncio.create_task(site.commit.run(site.add, 1, 7))
        await asyncio.sleep(0)  # it waits for the next batch, which is two turns away
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        return kind._locked

    assert run(main()) == {}
