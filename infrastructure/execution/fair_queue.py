"""A queue that serves its clients in rotation."""

from collections import Counter, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """FIFO queues of several clients, of which each in rotation is served once.

    A client has at most its share of what is served at once; None, which is no client, may have all.
    """

    def __init__(self, share: int) -> None:
        self._share = share
        self._queues: dict[Hashable, deque[T]] = {}
        self._served: Counter[Hashable] = Counter()

    def put(self, client: Hashable, item: T) -> None:
        """Append to the queue of a client."""
        self._queues.setdefault(client, deque()).append(item)

    def get(self) -> tuple[Hashable, T] | None:
        """Take the first item of the client served longest ago and below its share."""
        for client, queue in self._queues.items():
            if self.serve(client):
                del self._queues[client]
                item = queue.popleft()
                if queue:
                    self._queues[client] = queue  # at the end
                return client, item
        return None

    def serve(self, client: Hashable) -> bool:
        """Begin to serve a client, past the queue, unless it has its share."""
        if client is not None and self._served[client] >= self._share:
            return False
        self._served[client] += 1
        return True

    def done(self, client: Hashable) -> None:
        """End serving an item of a client."""
        self._served[client] -= 1
        if not self._served[client]:
            del self._served[client]

    def size(self, client: Hashable) -> int:
        """Return how many items a client has in the queue."""
        return len(self._queues.get(client, ()))
