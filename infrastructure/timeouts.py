"""Bounds on all waits, each with its unit and reason."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Bounds on waits, in seconds.

    The container passes them to the adapters; tests pass their own.
    """

    request: float = 5.5
    """All waits of one request together, from its first use case on: a little more than `statement`."""

    acquire: float = 2.0
    """The wait for a connection or for a thread. A longer queue would serve clients that have disconnected."""

    retry_pauses: tuple[float, ...] = (0.05, 0.1, 0.2)
    """The longest pause before each further attempt at a use case; a random part of it keeps attempts apart."""

    connect: int = 3
    """One attempt to connect to PostgreSQL, its name resolution included."""

    response: float = 5.5
    """One response of PostgreSQL: a little more than `statement`, for a server that is frozen or out of reach."""

    statement: float = 5.0
    """One statement, measured by PostgreSQL itself (`statement_timeout`)."""

    lock: float = 1.0
    """One lock, measured by PostgreSQL itself (`lock_timeout`)."""

    operation_lock: float = 4.0
    """One lock of a migration or of a bulk read or write. Requests queue behind it, and fail after `lock`.

    PostgreSQL cancels an autovacuum that blocks another session after `deadlock_timeout`, 1 s by default.
    """

    idle_in_transaction: float = 10.0
    """A transaction without a statement, after which PostgreSQL ends its session."""

    sqlite_busy: float = 5.0
    """The write lock of SQLite: within the process, and again for other processes."""

    startup: float = 30.0
    """How long a start waits for a database that is not up."""

    startup_pauses: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    """Between the attempts of a start; the last one repeats."""

    receive: float = 15.0
    """A request to arrive whole, from the connection's or the previous request's end on."""

    send: float = 15.0
    """A client to take 64 KiB of a response while more wait."""

    graceful_shutdown: int = 10
    """Running requests at shutdown."""

    worker_ping: float = 0.5
    """Between two pings of a worker, and until its supervisor handles a signal."""

    worker_healthcheck: int = 15
    """A worker's reply to its supervisor, before it is replaced."""

    worker_start: float = 120.0
    """A worker's start, before it is replaced; starting on a slow machine takes long."""

    worker_restart: float = 5.0
    """Before a worker that failed is replaced. One that was killed is replaced at once."""

    socket_closing: float = 2.0
    """How long a worker that stops waits for its supervisor to close the shared sockets."""

    backlog: float = 1.0
    """The backlog of a socket to be accepted, before further connections are refused."""

    last_read_pause: float = 0.03
    """Between the last reads of accepted connections at shutdown."""

    @property
    def worker_stop(self) -> float:
        """From the end of the drain to the kill of a worker: its own bounds, and 1 s.

        `TimeoutStopSec` and `stop_grace_period` must be longer than `DRAIN_SECONDS` and this together.
        """
        return self.socket_closing + self.graceful_shutdown + 1


DEFAULT_TIMEOUTS: Final = Timeouts()
