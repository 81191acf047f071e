"""The command behind `make bench` and `make bench-full`."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks import distributed
from benchmarks.agreement import require_agreement
from benchmarks.chart import draw
from benchmarks.data import Data
from benchmarks.databases import databases
from benchmarks.fairness import fairness
from benchmarks.first_edition import FirstEditionError
from benchmarks.hostile import costs, memory
from benchmarks.load import LoadError, Measured, Rounds, require_wrk
from benchmarks.peers import PeerError, Running, agora
from benchmarks.report import Finding, findings_table, machine, put_between, samples_table, shown, table
from benchmarks.scenarios import CONNECTIONS, LENGTHY, SCENARIOS, growth, list_at_sizes
from benchmarks.signins import durations
from benchmarks.stage import PEERS, Stage
from benchmarks.startup import startup
from benchmarks.unread import unread

USUAL: Final = tuple(name for name in SCENARIOS if name not in LENGTHY)
SIZES: Final = (3_000, 30_000, 300_000, 3_000_000)
CHART_TITLE: Final = "Requests per second against the number of posts"
BYTES_A_POST: Final = 6_000
"""Of disk, with its ten votes, their indexes and the log of writing them."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Rounds, of which the median counts.")]
SecondsOption = Annotated[int, typer.Option("--seconds", min=1, help="Seconds that a round takes.")]
WarmUpOption = Annotated[
    int,
    typer.Option("--warm-up", min=0, help="Seconds of load before the first round, at most: until the rate is steady."),
]
ConnectionsOption = Annotated[int, typer.Option("--connections", min=1, help="Connections that stay open.")]
MarkdownOption = Annotated[
    Path | None,
    typer.Option("--markdown", exists=True, dir_okay=False, help="File to write into as well, between its markers."),
]


@app.callback()
def benchmarks() -> None:
    """Measure what Agora costs, on a private PostgreSQL, with wrk."""


@app.command()
def compare(
    posts: Annotated[int, typer.Option(min=1000, help="Posts, with ten votes each.")] = 300_000,
    rounds: RoundsOption = 5,
    seconds: SecondsOption = 2,
    warm_up: WarmUpOption = 10,
    connections: Annotated[str, typer.Option(help="Connections that stay open, for single actions.")] = "1,16,64",
    scenarios: Annotated[str, typer.Option(help=f"Of: {', '.join(SCENARIOS)}.")] = ",".join(USUAL),
    peers: Annotated[str, typer.Option(help=f"Servers, of: {', '.join(PEERS)}.")] = ",".join(PEERS),
    markdown: MarkdownOption = None,
    section: Annotated[str, typer.Option(help="Name of the markers in that file.")] = "results",
) -> None:
    """Measure Agora beside other servers, and against its own bars."""
    chosen = _chosen("--scenarios", scenarios, SCENARIOS)
    plan = Rounds(rounds, seconds, warm_up, CONNECTIONS)
    require_wrk()
    findings, failures = [], []
    with _stack() as (stack, folder):
        server = stack.enter_context(databases())
        data = Data(posts, _now())
        _say(f"filling the databases with {posts:,} posts")
        servers = tuple(_chosen("--peers", peers, PEERS))
        stage = Stage(stack, folder, server, data, servers, _numbers("--connections", connections))
        require_agreement([stage.server(peer) for peer in servers], posts)
        for name in chosen:
            _say(f"measuring: {name}")
            try:
                findings += SCENARIOS[name](stage, plan)
            except (LoadError, PeerError) as error:
                failures.append(f"{name} failed: {error}")
                _say(failures[-1])
        where = machine(server.version())
    missed = sum(not finding.is_met for finding in findings)
    summary = f"{len(findings) - missed} of {len(findings)} bars are met."
    conditions = f"{posts:,} posts, {len(chosen)} scenarios, medians of {rounds} rounds of {seconds} seconds ({where})."
    measured = [samples_table(stage.samples)] if stage.samples else []
    text = "\n".join([conditions, *stage.notes, "", *measured, findings_table(findings), summary, *failures])
    typer.echo(text)
    if markdown:
        put_between(markdown, section, text)
    if failures:
        raise LoadError(f"{len(failures)} of {len(chosen)} scenarios could not be measured")


@app.command("growth")
def measure_growth(
    sizes: Annotated[str, typer.Option(help="Numbers of posts.")] = ",".join(map(str, SIZES)),
    rounds: RoundsOption = 3,
    seconds: SecondsOption = 3,
    warm_up: WarmUpOption = 10,
    connections: ConnectionsOption = CONNECTIONS,
    chart: Annotated[Path | None, typer.Option(help="File to draw the chart into, as SVG.")] = None,
    markdown: MarkdownOption = None,
) -> None:
    """Measure what Agora costs as posts become more."""
    plan = Rounds(rounds, seconds, warm_up, connections)
    require_wrk()
    found: dict[int, dict[str, Measured]] = {}
    smallest: Running | None = None
    findings: list[Finding] = []
    with _stack() as (stack, folder):
        server = stack.enter_context(databases())
        for posts in _numbers("--sizes", sizes):
            if shutil.disk_usage(folder).free < posts * BYTES_A_POST:
                _say(f"{posts:,} posts are left out: they need {posts * BYTES_A_POST / 1e9:.0f} GB of disk")
                continue
            _say(f"filling a database with {posts:,} posts")
            name = f"agora_{posts}"
            with ExitStack() as passing:
                lasting = passing if smallest else stack  # the first is compared with each of the others
                running = lasting.enter_context(agora(server.agora(name, Data(posts, _now())), folder, name=name))
                found[posts] = growth(running, posts, plan)
                if smallest:
                    what = f"list at {posts:,} posts against {min(found):,}"
                    findings.append(list_at_sizes(what, smallest, running, plan))
            if smallest:
                server.drop(name)
            smallest = smallest or running
        where = machine(server.version())
    names = list(next(iter(found.values())))
    rows = [[f"{posts:,}", *(shown(figures[name]) for name in names)] for posts, figures in found.items()]
    conditions = f"Medians of {rounds} rounds of {seconds} seconds, {connections} connections ({where})."
    text = "\n".join([conditions, "", table(["Posts", *names], rows), findings_table(findings)])
    typer.echo(text)
    if chart:
        lines = {name: [figures[name].per_second for figures in found.values()] for name in names}
        chart.write_text(draw(CHART_TITLE, list(found), lines), encoding="utf-8")
        if markdown:
            text = f"![{CHART_TITLE}]({os.path.relpath(chart, markdown.parent)})\n\n{text}"
    if markdown:
        put_between(markdown, "growth", text)


@app.command("hostile")
def measure_hostile(
    fields: Annotated[bool, typer.Option(help="Measure the worst text in every field.")] = True,
    refusals: Annotated[bool, typer.Option(help="Measure memory after refused requests.")] = True,
) -> None:
    """Measure hostile input: processor time in every field, memory after refusals."""
    findings: list[Finding] = []
    with _stack() as (stack, folder):
        server = stack.enter_context(databases())
        running = stack.enter_context(agora(server.agora("agora_hostile", Data(1_000, _now())), folder))
        for measured in ((costs(running) if fields else ()), (memory(running) if refusals else ())):
            for finding in measured:
                _say(" | ".join(finding.cells()))
                findings.append(finding)
    missed = sum(not finding.is_met for finding in findings)
    typer.echo(f"{findings_table(findings)}{len(findings) - missed} of {len(findings)} bars are met.")


@app.command("fairness")
def measure_fairness(
    posts: Annotated[int, typer.Option(min=1000, help="Posts, with ten votes each.")] = 300_000,
) -> None:
    """Measure what one client that floods the server costs another."""
    with _stack() as (stack, folder):
        server = stack.enter_context(databases())
        typer.echo(findings_table(list(fairness(server, folder, Data(posts, _now())))))


@app.command("signins")
def measure_signins(
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Sign-ins of each kind.")] = 500,
) -> None:
    """Measure how long refused sign-ins take, by the kind of the account's hash."""
    with _stack() as (stack, folder):
        server = stack.enter_context(databases())
        typer.echo(findings_table(list(durations(server, folder, Data(1_000, _now()), rounds))))


@app.command("unread")
def measure_unread() -> None:
    """Measure clients that do not read or do not ask: memory, and the time of others."""
    with _stack() as (stack, folder):
        server = stack.enter_context(databases())
        running = stack.enter_context(agora(server.agora("agora_unread", Data(1_000, _now())), folder))
        for finding in unread(running):
            _say(" | ".join(finding.cells()))


@app.command("distributed")
def measure_distributed(
    posts: Annotated[int, typer.Option(min=30_000, help="Posts, with ten votes each.")] = 60_000,
    rounds: RoundsOption = 3,
    seconds: SecondsOption = 4,
    markdown: MarkdownOption = None,
) -> None:
    """Measure a request on a Citus cluster beside one server.

    TEST_CITUS_BIN names the PostgreSQL of both.
    """
    require_wrk()
    with _stack() as (stack, folder):
        text = distributed.measure(stack, folder, posts, seconds, rounds, _say)
    typer.echo(text)
    if markdown:
        put_between(markdown, "distributed", text)


@app.command("startup")
def measure_startup(
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Runs of each command, of which the least counts.")
    ] = 5,
) -> None:
    """Measure the processor time of commands against that of importing typer."""
    typer.echo(findings_table(list(startup(rounds))))


def main() -> None:
    """Run the command; what fails ends with one line that says why."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no server is left behind
    try:
        app()
    except (FirstEditionError, LoadError, PeerError) as error:
        sys.exit(f"benchmarks: {error}")


@contextmanager
def _stack() -> Iterator[tuple[ExitStack, Path]]:
    """Yield a temporary folder, and a stack that is closed before its removal."""
    with tempfile.TemporaryDirectory(prefix="agora-bench-") as folder, ExitStack() as stack:
        yield stack, Path(folder)


def _chosen(option: str, names: str, known: Iterable[str]) -> list[str]:
    """Read a list of names, and give them in the order in which they are known."""
    chosen = {name.strip() for name in names.split(",") if name.strip()}
    strangers = chosen.difference(known)
    if strangers:
        raise typer.BadParameter(f"{', '.join(sorted(strangers))}; there are {', '.join(known)}", param_hint=option)
    return [name for name in known if name in chosen]


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(number) for number in text.split(",")}))
    except ValueError:
        raise typer.BadParameter("name numbers, with commas between them", param_hint=option) from None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _say(words: str) -> None:
    typer.echo(words, err=True)


if __name__ == "__main__":
    main()
