"""Cost of a request on a database that Citus distributes, and on one server."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final

from sqlalchemy import URL

from application.paging import NEWEST_FIRST, Window
from application.posts import WritePost, WritePosts
from application.views import Bearer, PostFilter
from application.votes import CastVote, CastVotes
from benchmarks.data import COMMON, RARE, Data
from benchmarks.databases import SERVER, connected, fill
from benchmarks.load import Load
from benchmarks.peers import Running, agora
from benchmarks.processes import family_seconds, parent
from domain.votes import Direction
from infrastructure.clock import SystemClock
from infrastructure.database.schema import Migrations
from infrastructure.database.tables import metadata
from infrastructure.operations.distribution import Distribution
from tests.support.backends import Backend, sql_backend
from tests.support.citus import OPTIONS, WORKERS, execute, find_citus, join
from tests.support.postgres import Postgres, one_server
from tests.support.round_trips import round_trips

SHARDS: Final = (4, 32)
REMOVED: Final = 5
"""Accounts that are removed in each round."""

LOADS: Final = {
    "list of 10": Load("path", text="/posts?limit=10"),
    "list of 10, page 2": Load("path", text="/posts?limit=10&skip=10"),
    "one post": Load("get"),
    "vote": Load("vote"),
    "create": Load("create", text="It takes a few words to fill a post. " * 10),
    f"search for {RARE}, which 10 titles have": Load("path", text=f"/posts?limit=10&search={RARE}"),
    f"search for {COMMON}, which a tenth have": Load("path", text=f"/posts?limit=10&search={COMMON}"),
}
REMOVAL: Final = "removal of an account"


@dataclass
class Layout:
    """A database, on one server or on a cluster, with a server of Agora."""

    name: str
    servers: Sequence[URL]
    url: URL
    running: Running

    @cached_property
    def _processes(self) -> Sequence[int]:
        return [_first_process(server) for server in self.servers]

    def seconds(self) -> float:
        """Return the processor time that all servers of PostgreSQL have used."""
        return sum(map(family_seconds, self._processes))


def _first_process(server: URL) -> int:
    with connected(server) as connection:
        return parent(connection.get_backend_pid())


def layouts(stack: ExitStack, folder: Path, data: Data, say: Callable[[str], None]) -> Iterator[Layout]:
    """Make and fill the databases: plain, and with each number of shards."""
    binaries = find_citus()

    def started(options: Mapping[str, str]) -> Postgres:
        return stack.enter_context(one_server(binaries, {**SERVER, **options}))

    plain = started({"shared_buffers": "512MB"})
    cluster = [started({**OPTIONS, "shared_buffers": "256MB"}) for _ in range(1 + WORKERS)]
    join([server.url for server in cluster])
    for shards in (0, *SHARDS):
        name = f"Citus, {shards} shards" if shards else "plain"
        say(f"filling: {name}")
        servers = [server.url.set(database=f"agora_{shards}") for server in (cluster if shards else [plain])]
        for server in servers:
            execute(server.set(database="postgres"), f"CREATE DATABASE agora_{shards}")
        if shards:
            join(servers)
        Migrations(servers[0]).upgrade()
        fill(servers[0], metadata, data)
        if shards:
            Distribution(servers[0]).apply(shards)
        execute(servers[0], "VACUUM ANALYZE")
        running = stack.enter_context(agora(servers[0], folder, name=name.replace(", ", "-").replace(" ", "-")))
        yield Layout(name, servers, servers[0], running)


def measure(stack: ExitStack, folder: Path, posts: int, seconds: int, rounds: int, say: Callable[[str], None]) -> str:
    """Measure each action on each layout, and return the table.

    Accounts are removed at the end, with their posts: until then every request is answered.
    """
    data = Data(posts, datetime.now(UTC).replace(microsecond=0))
    found = list(layouts(stack, folder, data, say))
    costs: dict[str, dict[str, list[float]]] = {}
    for number, (action, load) in product(range(rounds), LOADS.items()):
        say(f"round {number + 1}: {action}")
        for layout in found:
            cost = _request(layout, Load(load.scenario, posts, load.text), seconds)
            costs.setdefault(action, {}).setdefault(layout.name, []).append(cost)
    for number, layout in product(range(rounds), found):
        cost = _removal(layout, data.users - 1 - number * REMOVED)
        costs.setdefault(REMOVAL, {}).setdefault(layout.name, []).append(cost)
    trips = {layout.name: counted(layout.url, data.users) for layout in found}
    names = [layout.name for layout in found]
    rows = [["", *names, "round trips"], ["---"] * (len(names) + 2)]
    for action, each in costs.items():
        messages = [str(trips[name][action]) for name in names if action in trips[name]]
        rows.append([action, *(f"{median(each[name]):.2f}" for name in names), ", ".join(messages)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _request(layout: Layout, load: Load, seconds: int) -> float:
    """Measure the milliseconds of processor time of one request, over 16 connections."""
    load.on(layout.running, 16, 1)  # to warm up
    before = layout.seconds()
    requests = load.on(layout.running, 16, seconds).requests
    return (layout.seconds() - before) / requests * 1e3


def _removal(layout: Layout, last: int) -> float:
    with sql_backend(layout.url) as backend:
        backend.users.find_by_email("")  # connects
        before = layout.seconds()
        for each in range(REMOVED):
            _remove(backend, last - each)
        return (layout.seconds() - before) / REMOVED * 1e3


def _remove(backend: Backend, user_id: int) -> None:
    with backend.uow() as tx:
        tx.users.remove(user_id)


def counted(url: URL, last: int) -> Mapping[str, int]:
    """Count the messages of each action to PostgreSQL, when nothing else is asked."""
    with round_trips() as sent, sql_backend(url) as backend:
        clock, caller = SystemClock(), Bearer(1, 1, datetime.now(UTC))
        cast, write = CastVote(CastVotes(backend.uow, clock)), WritePost(WritePosts(backend.uow, clock))
        lists = partial(backend.posts.list, caller)
        listed, rare, common = (PostFilter(search=words) for words in ("", RARE, COMMON))
        actions: Sequence[Callable[[], object]] = (
            lambda: lists(listed, NEWEST_FIRST, Window(10)),
            lambda: lists(listed, NEWEST_FIRST, Window(10, skip=10)),
            lambda: backend.posts.get(caller, 1),
            lambda: cast(caller, 1, Direction.DOWN),
            lambda: write(caller, "A title", "Some content", True),
            lambda: lists(rare, NEWEST_FIRST, Window(10)),
            lambda: lists(common, NEWEST_FIRST, Window(10)),
            lambda: _remove(backend, last),
        )
        backend.users.find_by_email("")  # connects
        found = {}
        for name, act in zip((*LOADS, REMOVAL), actions, strict=True):
            sent.clear()
            act()
            found[name] = len(sent)
    return found
