"""A queue that serves its clients in rotation."""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """FIFO queues of several clients, of which each in rotation is served once."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[T]] = {}

    def put(self, client: Hashable, item: T) -> None:
        """Append to the queue of a client."""
        self._queues.setdefault(client, deque()).append(item)

    def get(self, is_ready: Callable[[Hashable], bool]) -> tuple[Hashable, T] | None:
        """Take the first item of the client served longest ago of those ready."""
        for client, queue in self._queues.items():
            if is_ready(client):
                del self._queues[client]
                item = queue.popleft()
                if queue:
                    self._queues[client] = queue  # at the end
                return client, item
        return None

    def size(self, client: Hashable) -> int:
        """Return how many items a client has in the queue."""
        return len(self._queues.get(client, ()))
