"""Measured scenarios and their bars."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from benchmarks.data import ABSENT, COMMON, PASSWORD, RARE
from benchmarks.load import Load, Measured, Rounds, measured, medians
from benchmarks.peers import PeerError, Running
from benchmarks.processes import resident_kib
from benchmarks.report import Bar, Finding, ratio, shown
from benchmarks.stage import SMALL, Stage

CONNECTIONS: Final = 16
LIST: Final = "/posts?limit=10"
CONTENT: Final = "It takes a few words to fill a post. " * 10


@dataclass(frozen=True, slots=True)
class Against:
    """A bar for a figure of Agora's divided by a peer's."""

    peer: str
    bar: Bar
    figure: str = "per_second"


def _rates(naive: float, fastify: float, pipelined: float, bun: float) -> tuple[Against, ...]:
    return (
        Against("naive", Bar(naive)),
        Against("fastify", Bar(fastify, goal=2)),
        Against("fastify-pipelined", Bar(pipelined, goal=1.5)),
        Against("bun", Bar(bun, goal=1)),
    )


AGAINST: Final = {
    ("list", 16): _rates(15, 1.3, 1.0, 0.4),
    ("get", 16): (*_rates(12, 1.1, 0.9, 0.35), Against("bun", Bar(1.0, goal=0.3, at_most=True), "database")),
    ("vote", 16): _rates(12, 1.2, 0.9, 0.45),
    ("create", 16): _rates(12, 1.2, 0.9, 0.45),
    ("get", 1): (Against("first-edition", Bar(1.05, goal=0.9, at_most=True), "p50"),),
    ("vote", 1): (Against("first-edition", Bar(1.05, goal=0.9, at_most=True), "p50"),),
    ("list", 64): (Against("fastify", Bar(0.7, goal=0.5, at_most=True), "p99"),),
}
"""Bars by action and number of connections."""

DEEP_PAGE: Final = Bar(0.9)
LARGE_LIST: Final = Bar(0.9)
SEARCHES: Final = {RARE: Bar(50, at_most=True), COMMON: Bar(150, at_most=True), ABSENT: Bar(50, at_most=True)}
TWO_WORKERS: Final = Bar(1.2)
LOGINS: Final = Bar(3, at_most=True)
HOT_POST: Final = Bar(0.9, goal=1)
HOT_P99: Final = Bar(60, at_most=True)
MEMORY: Final = Bar(1.05, at_most=True)

HOT_CONNECTIONS: Final = 64
SPREAD_POSTS: Final = 10_000
LOGIN_CLIENTS: Final = 16
FEW_REQUESTS: Final = 10_000
MANY_REQUESTS: Final = 200_000


def against(action: str, stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare an action with every peer, at each number of connections.

    The naive application is measured at the usual number only.
    """
    load = Load(action, stage.data.posts, CONTENT)
    findings = []
    for connections in stage.connections:
        peers = [peer for peer in stage.peers if peer != "naive" or connections == rounds.connections]
        trials = {peer: (load, stage.server(peer)) for peer in peers}
        found = stage.measure(action, trials, replace(rounds, connections=connections))
        findings += [
            ratio(
                f"{action} against {each.peer}, {connections} connections",
                found["agora"],
                found[each.peer],
                each.bar,
                each.figure,
            )
            for each in AGAINST.get((action, connections), ())
            if {"agora", each.peer} <= found.keys()
        ]
    return findings


def deep_page(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare a page two thirds down the list, by its cursor, with the first one."""
    depth, agora = stage.data.posts * 2 // 3, stage.server("agora")
    deep = Load("path", text=f"{LIST}&cursor={_cursor_at(agora, depth)}")
    page = f"page {depth // 10:,}"
    found = stage.measure("pages", {"page 1": (Load("path", text=LIST), agora), page: (deep, agora)}, rounds)
    return [ratio(f"{page} by cursor against page 1", found[page], found["page 1"], DEEP_PAGE)]


def large_list(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare a list of many posts with a list of few."""
    load = Load("list")
    few, many = f"{SMALL:,} posts", f"{stage.data.posts:,} posts"
    found = stage.measure("size", {few: (load, stage.small), many: (load, stage.server("agora"))}, rounds)
    return [ratio(f"list at {many} against {few}", found[many], found[few], LARGE_LIST)]


def search(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Search for a rare word, a common one and one that is not there."""
    found = stage.measure("search", {word: (_search(word), stage.server("agora")) for word in SEARCHES}, rounds)
    names = {RARE: "a rare word", COMMON: "a common word", ABSENT: "an absent word"}
    return [
        Finding(f"search for {names[word]}, p99", shown(found[word]), "", found[word].p99, bar, " ms")
        for word, bar in SEARCHES.items()
    ]


def two_workers(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare two workers with one."""
    load = Load("list")
    one, two = stage.server("agora"), stage.server("agora", processes=2)
    found = stage.measure("workers", {"one worker": (load, one), "two workers": (load, two)}, rounds)
    return [ratio("list by two workers against one", found["two workers"], found["one worker"], TWO_WORKERS)]


def logins(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare the latency of reads with and without concurrent sign-ins.

    A slow machine refuses some sign-ins with 503; the report counts them.
    """
    agora = stage.server("agora")
    get = _trial(Load("get", stage.data.posts), agora, rounds)
    sign_in = Load("login", text=PASSWORD.replace(" ", "+"))

    signed_in: list[Measured] = []

    def crowded(seconds: int) -> Measured:
        with sign_in.running(agora, LOGIN_CLIENTS, seconds + 1) as wrk:
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
    posts = min(SPREAD_POSTS, stage.data.posts)
    server = stage.server("agora", processes=2)
    loads = {"on one post": (Load("vote", 1), server), f"on {posts:,} posts": (Load("vote", posts), server)}
    found = stage.measure("hot", loads, replace(rounds, connections=HOT_CONNECTIONS))
    hot, spread = found.values()
    return [
        ratio(f"votes on one post against votes on {posts:,}", hot, spread, HOT_POST),
        Finding("votes on one post, p99", shown(hot), "", hot.p99, HOT_P99, " ms"),
    ]


def memory(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare the memory of a worker after many requests with that after a few."""
    load = _trial(Load("mixed", stage.data.posts), stage.server("agora"), rounds)
    requests, sizes = 0, []
    for goal in (FEW_REQUESTS, MANY_REQUESTS):
        while requests < goal:
            requests += load(rounds.seconds).requests
        sizes.append(resident_kib(stage.server("agora").process))
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
        links = server.ask("GET", path).headers.get("Link", "")
        found = re.search(r'<([^>]*[?&]cursor=([^&>]+)[^>]*)>; rel="next"', links)
        if found is None:
            raise PeerError(f"{server.name} sent no next link with {path}: {links!r}")
        if passed >= depth:
            return found[2]
        path = found[1]
        passed += 100
