"""Agreement of measured servers, so that ratios compare equal work."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.peers import PeerError, Running


def require_agreement(peers: Sequence[Running], posts: int) -> None:
    """Require equal responses of all peers, so that ratios compare equal work.

    Raises:
        PeerError: two of them differ.
    """
    new = {"title": "The same title", "content": "The same content."}
    for status, method, path, body in (
        (200, "GET", "/posts?limit=10", None),
        (200, "GET", f"/posts/{posts // 2}", None),
        (200, "PUT", f"/posts/{posts // 3}/vote", {"dir": 1}),
        (200, "PUT", f"/posts/{posts // 3}/vote", {"dir": -1}),
        (201, "POST", "/posts", new),
    ):
        answers = [peer.ask(method, path, body) for peer in peers]
        for peer, answer in zip(peers, answers, strict=True):
            if answer.status != status:
                raise PeerError(f"{method} {path}: {peer.name} answers {answer.status}, not {status}")
            differing = set(_leaves(answer.body)) ^ set(_leaves(answers[0].body))
            names = {name for name, _ in differing} - ({"created_at", "updated_at"} if body is new else set())
            if names:
                raise PeerError(
                    f"{method} {path}: {peer.name} differs from {peers[0].name} in {', '.join(sorted(names))}"
                )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Name every value in a JSON document by the way to it."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, repr(value)
