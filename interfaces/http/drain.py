"""Graceful shutdown, as requests see it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Drain:
    """Whether the process is shutting down.

    It then reports not ready and closes connections. The server sets it on SIGTERM (interfaces/server/worker.py).
    A proxy that polls `/health/ready` moves to other servers before this one stops listening.
    """

    is_draining: bool = False
