"""Group commit: concurrent commands of one kind share a transaction."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from application.errors import RowLocked, TransactionAborted, Unavailable, only
from infrastructure.execution.batching import REASON, Batches
from infrastructure.execution.greenlets import Executor
from infrastructure.timeouts import Timeouts

P = ParamSpec("P")
T = TypeVar("T")

COMMANDS_MAX: Final = 64
"""Commands of one transaction: posts of the greatest length are 4 MiB."""

LOCKED_ROWS_MAX: Final = 4
"""Rows locked by others that are waited for at once, each with a connection; commands on further rows wait for them."""

APART_MAX: Final = 1_000
APART_SECONDS: Final = 60
"""Accounts that share no transaction, at most, and for how long after their last command that failed one."""

Several = Callable[[Sequence[Any]], Sequence[Any]]


class Command(Protocol):
    """A command that can share a transaction with others of its kind."""

    @property
    def account(self) -> int:
        """The account that gave it."""
        ...

    @property
    def row(self) -> int | None:
        """The row that it locks."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """The forms of a use case for several commands.

    They return a result or an error for each.
    """

    command: Callable[..., Command]
    """Makes a command from the arguments of the form for one."""

    several: Several
    """Does not wait for locked rows: their commands get `RowLocked`, or the transaction is aborted."""

    waiting: Several
    """Waits for locked rows."""


class GroupCommit:
    """An executor whose concurrent commands of one kind share a transaction.

    At most `in_flight` transactions of one kind are at work. A command returns after the commit. One that is refused is
    refused alone. If the transaction as a whole is refused, so that nothing happened, each of its commands runs again.
    The commands of an account whose own failed the transaction then run apart for a while. Commands on a row that
    another transaction has locked wait for it together, and delay no others.
    """

    def __init__(
        self, executor: Executor, groups: Mapping[Callable[..., Any], Group], timeouts: Timeouts, in_flight: int
    ) -> None:
        self._executor = executor
        self._kinds = {id(single): _Kind(group, executor, timeouts, in_flight) for single, group in groups.items()}

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a use case, with others of its kind if it has a form for several."""
        kind = self._kinds.get(id(work))
        if kind is None:
            return await self._executor.run(work, *args, **kwargs)
        result: T = await kind.run(kind.group.command(*args, **kwargs))
        return result

    def close(self) -> None:
        """Release what running takes."""
        for kind in self._kinds.values():
            kind.close()
        self._executor.close()


class _Kind:
    """Commands of one kind that wait for a transaction, or for a locked row."""

    def __init__(self, group: Group, executor: Executor, timeouts: Timeouts, in_flight: int) -> None:
        self.group = group
        self._executor = executor
        self._timeouts = timeouts
        self._next = self._batches(self._send, in_flight)
        self._apart: dict[int, float] = {}
        """Accounts that share no transaction, each until a time of the event loop, in its order."""
        self._locked: dict[int, Batches[Command, Any]] = {}
        self._slots = asyncio.Semaphore(LOCKED_ROWS_MAX)

    async def run(self, command: Command) -> Any:
        row = command.row
        if row is None or row not in self._locked:
            try:
                return await self._run(command)
            except RowLocked:
                if row is None:
                    raise
        if row not in self._locked:
            self._locked[row] = self._batches(self._send_waiting, 1, partial(self._locked.pop, row))
        return await self._locked[row].submit(command)

    async def _run(self, command: Command) -> Any:
        if self._apart.get(command.account, 0) > asyncio.get_running_loop().time():
            return only(await self._send([command]))
        return await (self._next.send(command) if self._next.is_idle else self._next.submit(command))

    def close(self) -> None:
        for batches in (self._next, *self._locked.values()):
            batches.close()

    def _batches(self, send: Any, in_flight: int, idle: Callable[[], object] = lambda: None) -> Batches[Command, Any]:
        return Batches(send, most=COMMANDS_MAX, in_flight=in_flight, timeouts=self._timeouts, idle=idle)

    async def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        try:
            return await self._executor.run(self.group.several, commands)
        except TransactionAborted:
            if commands[0].row is None:
                raise
            return [RowLocked(REASON)] * len(commands)
        except Unavailable as error:  # the outcome may be unknown
            return [error] * len(commands)
        except Exception:
            if len(commands) == 1:
                self._set_apart(commands[0].account)
            raise

    def _set_apart(self, account: int) -> None:
        self._apart.pop(account, None)
        self._apart[account] = asyncio.get_running_loop().time() + APART_SECONDS
        if len(self._apart) > APART_MAX:
            del self._apart[next(iter(self._apart))]

    async def _send_waiting(self, commands: Sequence[Command]) -> Sequence[Any]:
        async with self._slots:
            try:
                return await self._executor.run(self.group.waiting, commands)
            except Unavailable as error:
                return [error] * len(commands)
