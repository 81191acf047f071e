"""Databases and servers of a run, and what was measured on them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from benchmarks import first_edition
from benchmarks.data import Data
from benchmarks.databases import Databases
from benchmarks.load import Load, Measured, Rounds
from benchmarks.naive.models import Base
from benchmarks.peers import Running, agora, bun, fastify, install_node_packages, naive
from benchmarks.report import Sample

PEERS: Final = ("agora", "first-edition", "naive", "fastify", "fastify-pipelined", "bun")
ON_NODE_PACKAGES: Final = {"fastify", "fastify-pipelined", "bun"}
SMALL: Final = 3_000


@dataclass
class Stage:
    """Databases, one for each peer, and servers, which start at their first use."""

    stack: ExitStack
    folder: Path
    databases: Databases
    data: Data
    peers: tuple[str, ...]
    connections: tuple[int, ...]
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Fill the databases: a copy has Agora's indexes too, and pays for them."""
        self._warm: set[tuple[Load, Running]] = set()
        self._servers: dict[tuple[str, int, bool], Running] = {}
        if ON_NODE_PACKAGES.intersection(self.peers):
            install_node_packages()
        agora_url = self.databases.agora("agora", self.data)
        self._urls: dict[str, URL] = {"agora": agora_url}
        for peer in self.peers:
            name = peer.replace("-", "_")
            if peer == "naive":
                self._urls[peer] = self.databases.declared(name, Base.metadata, replace(self.data, drafts_a_voter=0))
            elif peer == "first-edition":
                self._urls[peer] = self.databases.first_edition(name, self.data, first_edition.install())
            elif peer != "agora":
                self._urls[peer] = self.databases.copy(name, agora_url)

    def server(self, peer: str, *, processes: int = 1, public: bool = False) -> Running:
        """Return a peer's server; if `public`, readers need no account."""
        known = self._servers.get((peer, processes, public))
        if known is None:
            known = self.stack.enter_context(self._started(peer, processes, public=public))
            self._servers[peer, processes, public] = known
        return known

    def _started(self, peer: str, processes: int, *, public: bool) -> AbstractContextManager[Running]:
        name = peer + (f", {processes} processes" if processes > 1 else "") + (", public" if public else "")
        url, settings = self._urls[peer], {"PUBLIC_READS": "true"} if public else {}
        if peer == "naive":
            return naive(url, self.folder)
        if peer == "fastify":
            return fastify(url, self.folder, name, settings)
        if peer == "fastify-pipelined":
            return fastify(url, self.folder, name, {**settings, "PIPELINE": "true"})
        if peer == "bun":
            return bun(url, self.folder, name, {**settings, "PROCESSES": str(processes)})
        if peer == "first-edition":
            return agora(url, self.folder, processes, name, settings, first_edition.install())
        return agora(url, self.folder, processes, name, settings)

    @cached_property
    def small(self) -> Running:
        """Agora with few posts."""
        url = self.databases.agora("small", Data(SMALL, self.data.now))
        return self.stack.enter_context(agora(url, self.folder, name="agora with few posts"))

    def measure(self, scenario: str, trials: Mapping[str, tuple[Load, Running]], rounds: Rounds) -> dict[str, Measured]:
        """Measure loads on servers, alternating; store a sample of each.

        A server that had the same load before, over at least as many connections, is warm.
        """
        calls: dict[str, Callable[[int], Measured]] = {
            name: partial(load.on, server, rounds.connections) for name, (load, server) in trials.items()
        }
        warm = {name for name, trial in trials.items() if trial in self._warm}
        found = rounds.interleaved(calls, warm)
        self._warm.update(trials.values())
        self.samples += [Sample(scenario, rounds.connections, name, each) for name, each in found.items()]
        return found
