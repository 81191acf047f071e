"""Measured scenarios and their bars."""

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks import first_edition, hostile
from benchmarks.agreement import next_link
from benchmarks.data import ABSENT, COMMON, PASSWORD, RARE, Data
from benchmarks.disk import flush_milliseconds, on_postgres, on_sqlite
from benchmarks.load import Load, Measured, Rounds, measured, medians
from benchmarks.peers import PeerError, Running
from benchmarks.processes import resident_kib
from benchmarks.report import Bar, Finding, ratio, shown
from benchmarks.stage import SMALL, Stage
from benchmarks.startup import startup
from tests.support.command import COMMAND

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

ON_ALL_CORES: Final = {
    action: (Against("bun", Bar(least, goal=1)),)
    for action, least in {"list": 0.4, "get": 0.4, "vote": 0.5, "create": 0.5}.items()
}
ON_SQLITE: Final = (Against("first-edition", Bar(5, goal=10)),)
EDITIONS: Final[dict[str, Callable[[], Path]]] = {"agora": lambda: COMMAND, "first-edition": first_edition.install}
SPREADING: Final = ("agora", "bun")
"""Servers that run with several processes."""

CORES: Final = os.cpu_count() or 1

DEEP_PAGE: Final = Bar(0.9)
LARGE_LIST: Final = Bar(0.9)
SEARCHES: Final = {RARE: Bar(50, at_most=True), COMMON: Bar(150, at_most=True), ABSENT: Bar(50, at_most=True)}
TWO_WORKERS: Final = Bar(1.2)
LOGINS: Final = Bar(3, at_most=True)
HOT_POST: Final = Bar(0.9, goal=1)
HOT_P99: Final = Bar(60, at_most=True)
MEMORY: Final = Bar(1.05, at_most=True)
MOST_MEMORY: Final = Bar(300, at_most=True)

HOT_CONNECTIONS: Final = 64
SPREAD_POSTS: Final = 10_000
LOGIN_CLIENTS: Final = 16
DISTINCT: Final = 100
"""Pages by cursor in the scenario of unequal lists."""

FEW_REQUESTS: Final = 10_000
MANY_REQUESTS: Final = 200_000


def against(action: str, stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare an action with every peer, at each number of connections.

    The naive application is measured at the usual number only, and at the others rounds are short.
    """
    load = Load(action, stage.data.posts, CONTENT)
    findings = []
    for connections in sorted(stage.connections, reverse=True):
        usual = connections == rounds.connections
        trials = {peer: (load, stage.server(peer)) for peer in (stage.peers if usual else _tuned(stage))}
        found = stage.measure(action, trials, rounds if usual else replace(rounds, connections=connections, seconds=1))
        what = f"{action}, {connections} connection{'s' if connections > 1 else ''}"
        findings += _against(found, what, AGAINST.get((action, connections), ()))
    return findings


def lists(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare lists of which few are equal: pages, drafts, posts of one account."""
    trials = {}
    for peer in _tuned(stage):
        server = stage.server(peer)
        paths = stage.folder / f"{peer}.paths"
        paths.write_text("".join(f"{path}\n" for path in _unequal_lists(server, stage.data)))
        trials[peer] = (Load("paths", text=str(paths)), server)
    return _against(stage.measure("lists", trials, rounds), "lists of many kinds", ())


def day(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare the mix of a day, in which some readers have no account."""
    load = Load("day", stage.data.posts, CONTENT)
    trials = {peer: (load, stage.server(peer, public=True)) for peer in _tuned(stage)}
    return _against(stage.measure("day", trials, rounds), "mix of a day", ())


def cores(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare single actions of Agora and Bun, each with one process per core."""
    findings = []
    peers = [peer for peer in stage.peers if peer in SPREADING]
    for action, bars in ON_ALL_CORES.items():
        load = Load(action, stage.data.posts, CONTENT)
        trials = {peer: (load, stage.server(peer, processes=CORES)) for peer in peers}
        found = stage.measure(f"{action}, {CORES} processes", trials, rounds)
        findings += _against(found, f"{action}, {CORES} processes", bars)
    return findings


def disk(stage: Stage, rounds: Rounds) -> list[Finding]:
    """Compare writes that are flushed to a disk, on PostgreSQL and on SQLite."""
    on_postgres(stage, tuple(_tuned(stage)), CONTENT, rounds)
    editions = {peer: command() for peer, command in EDITIONS.items() if peer in stage.peers}
    found = on_sqlite(stage, editions, rounds)
    stage.notes.append(f"A flush of 8 KiB to the disk takes {flush_milliseconds():.2f} ms.")
    return _against(found, "votes on SQLite, on a disk", ON_SQLITE)


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
    """Compare a worker's memory after many requests with that after a few."""
    server = stage.server("agora")
    load = _trial(Load("mixed", stage.data.posts), server, rounds)
    requests, sizes = 0, []
    for goal in (FEW_REQUESTS, MANY_REQUESTS):
        while requests < goal:
            requests += load(rounds.seconds).requests
        sizes.append(resident_kib(server.process))
    few, many = sizes
    what = f"memory after {MANY_REQUESTS:,} requests against after {FEW_REQUESTS:,}"
    found = [Finding(what, f"{many:,} KiB", f"{few:,} KiB", many / few, MEMORY)]
    found += hostile.memory(server)
    mib = resident_kib(server.process) / 1_024
    return [*found, Finding("memory after requests and refused bodies", f"{mib:.0f} MiB", "", mib, MOST_MEMORY, " MiB")]


SCENARIOS: Final[dict[str, Callable[[Stage, Rounds], list[Finding]]]] = {
    "list": partial(against, "list"),
    "get": partial(against, "get"),
    "lists": lists,
    "pages": deep_page,
    "size": large_list,
    "search": search,
    "workers": two_workers,
    "logins": logins,
    "vote": partial(against, "vote"),
    "create": partial(against, "create"),
    "hot": hot_post,
    "day": day,
    "cores": cores,
    "disk": disk,
    "startup": lambda _stage, rounds: list(startup(rounds.rounds)),
    "memory": memory,
}
"""By name, in the order in which they run: what reads comes before what writes."""

LENGTHY: Final = ("memory",)
"""Left out unless named: they take minutes."""


def _tuned(stage: Stage) -> list[str]:
    """List the peers but the naive application, which has neither filters nor cursors."""
    return [peer for peer in stage.peers if peer != "naive"]


def _against(found: Mapping[str, Measured], what: str, bars: Iterable[Against]) -> list[Finding]:
    """Judge Agora's figures against those peers that were measured."""
    return [
        ratio(f"{what}, against {each.peer}", found["agora"], found[each.peer], each.bar, each.figure)
        for each in bars
        if {"agora", each.peer} <= found.keys()
    ]


def _unequal_lists(server: Running, data: Data) -> Iterator[str]:
    """Give pages by cursor, own drafts, an account's posts, the first page: in turn."""
    for page in islice(_pages(server, LIST), DISTINCT):
        yield page
        yield f"{LIST}&published=false"
        yield f"{LIST}&owner_id={random.randrange(data.users) + 1}"  # noqa: S311 - requests, not secrets
        yield LIST


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


def list_at_sizes(what: str, few: Running, many: Running, rounds: Rounds) -> Finding:
    """Compare lists of two servers, alternating."""
    trials = {"few": _trial(Load("list"), few, rounds), "many": _trial(Load("list"), many, rounds)}
    found = rounds.interleaved(trials)
    return ratio(what, found["many"], found["few"], LARGE_LIST)


def _trial(load: Load, server: Running, rounds: Rounds) -> Callable[[int], Measured]:
    return partial(load.on, server, rounds.connections)


def _search(word: str) -> Load:
    return Load("path", text=f"{LIST}&search={word}")


def _cursor_at(server: Running, depth: int) -> str:
    """Follow links from the deepest offset until the given number of posts."""
    passed = min(depth, 10_000)
    pages = _pages(server, f"/posts?limit=100&skip={passed - 100}")
    page = next(islice(pages, (depth - passed) // 100, None))
    return page.partition("cursor=")[2].partition("&")[0]


def _pages(server: Running, path: str) -> Iterator[str]:
    """Give the path of each page that follows, by the links.

    Raises:
        PeerError: a page links to none.
    """
    while True:
        link = next_link(server.ask("GET", path))
        if link is None:
            raise PeerError(f"{server.name} sent no next link with {path}")
        path = link
        yield path
