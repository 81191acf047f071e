"""Measured scenarios and their bars."""

import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from benchmarks.data import ABSENT, COMMON, PASSWORD, RARE, Data
from benchmarks.databases import Databases
from benchmarks.load import Load, Measured, Rounds, measured, medians
from benchmarks.naive.models import Base
from benchmarks.peers import PeerError, Running, agora, fastify, naive
from benchmarks.report import Bar, Finding, ratio, shown

PEERS: Final = ("naive", "fastify")
LIST: Final = "/posts?limit=10"
CONTENT: Final = "It takes a few words to fill a post. " * 10

AGAINST: Final = {
    "list": {"naive": Bar(15), "fastify": Bar(1.0, goal=1.3)},
    "get": {"naive": Bar(10), "fastify": Bar(0.7, goal=1.0)},
    "vote": {"naive": Bar(8), "fastify": Bar(0.7, goal=1.0)},
    "create": {"naive": Bar(8), "fastify": Bar(0.7, goal=1.0)},
}
DEEP_PAGE: Final = Bar(0.9)
LARGE_LIST: Final = Bar(0.9)
SEARCHES: Final = {RARE: Bar(50, at_most=True), COMMON: Bar(150, at_most=True), ABSENT: Bar(50, at_most=True)}
TWO_WORKERS: Final = Bar(1.3)
LOGINS: Final = Bar(3, at_most=True)
HOT_POST: Final = Bar(0.5)
HOT_P99: Final = Bar(250, at_most=True)
MEMORY: Final = Bar(1.05, at_most=True)

SMALL: Final = 3_000
HOT_CONNECTIONS: Final = 64
SPREAD_POSTS: Final = 10_000
LOGIN_CLIENTS: Final = 16
FEW_REQUESTS: Final = 10_000
MANY_REQUESTS: Final = 200_000


class Stage:
    """Databases and servers; each server starts at its first use."""

    def __init__(self, stack: ExitStack, folder: Path, databases: Databases, data: Data, peers: Iterable[str]) -> None:
        self._stack = stack
        self._folder = folder
        self._databases = databases
        self.data = data
        self._url = databases.agora("agora", data)
        self.peers: dict[str, Running] = {}
        if "naive" in peers:
            url = databases.declared("naive", Base.metadata, data)
            self.peers["naive"] = stack.enter_context(naive(url, folder))
        if "fastify" in peers:
            # The same tables, rows and indexes: both pay for all that the indexes are good for.
            self.peers["fastify"] = stack.enter_context(fastify(databases.copy("fastify", self._url), folder))

    @cached_property
    def agora(self) -> Running:
        """Agora in one process."""
        return self._stack.enter_context(agora(self._url, self._folder))

    @cached_property
    def two_workers(self) -> Running:
        """Agora in two processes, on the same database."""
        return self._stack.enter_context(agora(self._url, self._folder, workers=2, name="agora with two workers"))

    @cached_property
    def small(self) -> Running:
        """Agora with few posts."""
        url = self._databases.agora("small", Data(SMALL, self.data.now))
        return self._stack.enter_context(agora(url, self._folder, name="agora with few posts"))


def against(action: str, stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare one action with every peer."""
    load = Load(action, stage.data.posts, CONTENT)
    servers = {"agora": stage.agora, **stage.peers}
    found = rounds.interleaved({name: _trial(load, server, rounds) for name, server in servers.items()})
    return [
        ratio(f"{action} against {name}", found["agora"], found[name], AGAINST[action][name]) for name in stage.peers
    ]


def deep_page(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare a page two thirds down the list, by its cursor, with the first one."""
    depth = stage.data.posts * 2 // 3
    deep = Load("path", text=f"{LIST}&cursor={_cursor_at(stage.agora, depth)}")
    found = rounds.interleaved(
        {
            "first": _trial(Load("path", text=LIST), stage.agora, rounds),
            "deep": _trial(deep, stage.agora, rounds),
        }
    )
    return [ratio(f"page {depth // 10:,} by cursor against page 1", found["deep"], found["first"], DEEP_PAGE)]


def large_list(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare a list of many posts with a list of few."""
    load = Load("list")
    found = rounds.interleaved({"few": _trial(load, stage.small, rounds), "many": _trial(load, stage.agora, rounds)})
    what = f"list at {stage.data.posts:,} posts against {SMALL:,}"
    return [ratio(what, found["many"], found["few"], LARGE_LIST)]


def search(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Search for a rare word, a common one and one that is not there."""
    found = rounds.interleaved({word: _trial(_search(word), stage.agora, rounds) for word in SEARCHES})
    names = {RARE: "a rare word", COMMON: "a common word", ABSENT: "an absent word"}
    return [
        Finding(f"search for {names[word]}, p99", shown(found[word]), "", found[word].p99, bar, " ms")
        for word, bar in SEARCHES.items()
    ]


def two_workers(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare two workers with one."""
    load = Load("list")
    found = rounds.interleaved(
        {"one": _trial(load, stage.agora, rounds), "two": _trial(load, stage.two_workers, rounds)}
    )
    return [ratio("list by two workers against one", found["two"], found["one"], TWO_WORKERS)]


def logins(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare the latency of reads with and without concurrent sign-ins.

    A slow machine refuses some sign-ins with 503; the report counts them.
    """
    get = _trial(Load("get", stage.data.posts), stage.agora, rounds)
    sign_in = Load("login", text=PASSWORD.replace(" ", "+"))

    signed_in: list[Measured] = []

    def crowded(seconds: int) -> Measured:
        with sign_in.running(stage.agora, LOGIN_CLIENTS, seconds + 1) as wrk:
            found = get(seconds)
            signed_in.append(measured("signing in meanwhile", *wrk.communicate(), may_be_refused=True))
        return found

    found = rounds.interleaved({"alone": get, "crowded": crowded})
    alone, with_logins = found["alone"], found["crowded"]
    meanwhile = medians(signed_in)
    what = f"p99 of get while {LOGIN_CLIENTS} clients sign in ({meanwhile.per_second:.0f}/s) against without"
    if meanwhile.refused:
        what += f"; {meanwhile.refused:,} of {meanwhile.requests:,} told to come back"
    return [Finding(what, shown(with_logins), shown(alone), with_logins.p99 / alone.p99, LOGINS)]


def hot_post(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare votes on one post with votes on many, at two workers."""
    many = replace(rounds, connections=HOT_CONNECTIONS)
    posts = min(SPREAD_POSTS, stage.data.posts)
    found = rounds.interleaved(
        {
            "hot": _trial(Load("vote", 1), stage.two_workers, many),
            "spread": _trial(Load("vote", posts), stage.two_workers, many),
        }
    )
    hot, spread = found["hot"], found["spread"]
    return [
        ratio(f"votes on one post against votes on {posts:,}", hot, spread, HOT_POST),
        Finding("votes on one post, p99", shown(hot), "", hot.p99, HOT_P99, " ms"),
    ]


def memory(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare the memory of a worker after many requests with that after a few."""
    load = _trial(Load("mixed", stage.data.posts), stage.agora, rounds)
    requests, sizes = 0, []
    for goal in (FEW_REQUESTS, MANY_REQUESTS):
        while requests < goal:
            requests += load(rounds.seconds).requests
        sizes.append(_resident(stage.agora.process))
    few, many = sizes
    what = f"memory after {MANY_REQUESTS:,} requests against after {FEW_REQUESTS:,}"
    return [Finding(what, f"{many:,} KiB", f"{few:,} KiB", many / few, MEMORY)]


SCENARIOS: Final[dict[str, Callable[[Stage, Rounds], list[Finding]]]] = {
    "list": partial(against, "list"),
    "get": partial(against, "get"),
    "pages": deep_page,
    "size": large_list,
    "search": search,
    "workers": two_workers,
    "logins": logins,
    "vote": partial(against, "vote"),
    "create": partial(against, "create"),
    "hot": hot_post,
    "memory": memory,
}
"""By name, in the order in which they run: what reads comes before what writes."""

LENGTHY: Final = ("memory",)
"""Left out unless named: they take minutes."""


def growth(server: Running, posts: int, rounds: Rounds) -> dict[str, Measured]:
    """Measure what may depend on the number of posts."""
    loads = {
        "list": Load("list"),
        "get": Load("get", posts),
        "vote": Load("vote", posts),
        "search, rare word": _search(RARE),
        "search, common word": _search(COMMON),
    }
    return rounds.interleaved({name: _trial(load, server, rounds) for name, load in loads.items()})


def _trial(load: Load, server: Running, rounds: Rounds) -> Callable[[int], Measured]:
    return partial(load.on, server, rounds.connections)


def _search(word: str) -> Load:
    return Load("path", text=f"{LIST}&search={word}")


def _cursor_at(server: Running, depth: int) -> str:
    """Follow links from the deepest offset until the given number of posts."""
    passed = min(depth, 10_000)
    path = f"/posts?limit=100&skip={passed - 100}"
    while True:
        links = server.ask("GET", path).links
        found = re.search(r'<([^>]*[?&]cursor=([^&>]+)[^>]*)>; rel="next"', links)
        if found is None:
            raise PeerError(f"{server.name} sent no next link with {path}: {links!r}")
        if passed >= depth:
            return found[2]
        path = found[1]
        passed += 100


def _resident(process: int) -> int:
    """Return the resident memory of a process in KiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[0])
