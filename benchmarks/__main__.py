"""The command behind `make bench`."""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.data import data
from benchmarks.databases import databases
from benchmarks.load import Load, LoadError, Measured
from benchmarks.naive.models import Base
from benchmarks.peers import PeerError, agora, fastify, install_fastify, naive

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Measure Agora."""


@app.command()
def compare(
    posts: int = 3000,
    rounds: int = 3,
    seconds: int = 3,
    connections: int = 16,
    only: str = "list,get,vote,create",
    peers: str = "agora,fastify,naive",
) -> None:
    """Compare."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pg = stack.enter_context(databases())
        rows = data(posts)
        running = []
        url = pg.agora("agora", rows)
        if "fastify" in peers:
            install_fastify()
            other = pg.copy("fastify", url)
            running.append(stack.enter_context(fastify(other, folder)))
        if "naive" in peers:
            running.append(stack.enter_context(naive(pg.declared("naive", Base.metadata, rows), folder)))
        if "agora" in peers:
            running.append(stack.enter_context(agora(url, folder)))
        typer.echo(f"{[r.address for r in running]} {folder}", err=True)
        for name in only.split(","):
            load = Load(name, posts, "text " * 60)
            found: dict[str, list[Measured]] = {}
            for _ in range(rounds):
                for peer in running:
                    found.setdefault(peer.name, []).append(
                        load.put_on(peer.address, peer.tokens, connections=connections, seconds=seconds)
                    )
            for peer_name, m in found.items():
                typer.echo(
                    f"{name} {peer_name} {median(x.per_second for x in m):.0f}/s p99 {median(x.p99 for x in m):.1f} ms"
                )


app()
