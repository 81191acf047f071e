"""Tables, quotations and the OpenAPI document in docs/, written from the code: `make docs`."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import typer
from prometheus_client.parser import text_string_to_metric_families
from pydantic.fields import FieldInfo

from benchmarks.report import put_between
from infrastructure.prometheus import PrometheusMetrics
from infrastructure.settings import Settings, masked
from interfaces.cli.main import app
from interfaces.http.openapi import as_text
from interfaces.http.problems import PROBLEMS
from tests.support.openapi import document_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OPENAPI = DOCS / "openapi.json"


@dataclass(frozen=True, slots=True)
class Reference:
    """One table or quotation: its page below docs/, the name in its markers, and its Markdown."""

    page: str
    marker: str
    text: str


def references() -> Iterator[Reference]:
    """Write every table and quotation that docs/ takes from the code."""
    yield Reference("settings.md", "settings", _table(("Name", "Default", "Values", "Meaning"), _settings()))
    yield Reference("metrics.md", "metrics", _table(("Name", "Type", "Labels", "Meaning"), _metrics()))
    yield Reference("problems.md", "problems", _table(("Slug", "Status", "Cause", "Remedy"), _problems()))
    for name, command in commands():
        if command.params:
            kind = (
                "Option" if any(parameter.param_type_name == "option" for parameter in command.params) else "Argument"
            )
            yield Reference("cli.md", name, _table((kind, "Default", "Meaning"), _parameters(command)))
    for marker in re.findall(r"^<!-- (\S+\.py \S+) -->$", (DOCS / "architecture.md").read_text("utf-8"), re.MULTILINE):
        yield Reference("architecture.md", marker, _quotation(*marker.split()))
    for path in re.findall(r"^<!-- (tests/clients/\S+) -->$", (DOCS / "clients.md").read_text("utf-8"), re.MULTILINE):
        language = {".py": "python", ".ts": "typescript"}[Path(path).suffix]
        yield Reference("clients.md", path, f"```{language}\n{(ROOT / path).read_text('utf-8').strip()}\n```")


def commands(command: Any = None, name: str = "agora") -> Iterator[tuple[str, Any]]:
    """Walk the command line: each command under its full name."""
    command = typer.main.get_command(app) if command is None else command
    for part, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {part}")
    if not hasattr(command, "commands"):
        yield name, command


def _settings() -> Iterator[Sequence[str]]:
    for name, field in Settings.model_fields.items():
        yield f"`{name.upper()}`", f"`{masked(field.default)}`", _accepted(field), str(field.description)


def _accepted(field: FieldInfo) -> str:
    limits = {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le") if hasattr(rule, name)}
    if limits:
        return f"{limits['ge']} to {limits['le']}" if "le" in limits else f"{limits['ge']} or more"
    if field.annotation is bool:
        return "`true`, `false`"
    return ", ".join(f"`{choice}`" for choice in get_args(field.annotation) if isinstance(choice, str)) or "text"


def _metrics() -> Iterator[Sequence[str]]:
    metrics = PrometheusMetrics()
    metrics.responded("GET", "/posts", 200, 0.1)  # the labels of a request appear with its first count
    for family in text_string_to_metric_families(metrics.page().decode()):
        name = f"`{family.name}{'_total' if family.type == 'counter' else ''}`"
        labels = ", ".join(f"`{label}`" for label in sorted({*family.samples[0].labels} - {"le"})) or "-"
        yield name, family.type, labels, family.documentation


def _problems() -> Iterator[Sequence[str]]:
    for slug, problem in PROBLEMS.items():
        yield f"`{slug}`", str(problem.status), problem.cause, problem.remedy


def _parameters(command: Any) -> Iterator[Sequence[str]]:
    for parameter in command.params:
        for option in parameter.opts:
            yield f"`{option}`", _default(parameter), parameter.help


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None:
        return "none"
    return "off" if parameter.default is False else f"`{parameter.default}`"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _quotation(path: str, name: str) -> str:
    """Quote a function, method or constant of a module, named by its dotted path within it."""
    code = (ROOT / path).read_text("utf-8")
    nodes: list[ast.stmt] = ast.parse(code).body
    for part in name.split("."):
        found = [node for node in nodes if part in _names(node)]
        if not found:
            raise LookupError(f"{path} has no {name}: correct its markers in docs/architecture.md")
        node = found[-1]
        nodes = getattr(node, "body", [])
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    quoted = dedent("\n".join(code.splitlines()[first - 1 : node.end_lineno]))
    return f"```python\n{quoted}\n```"


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return {getattr(node, "name", "")}


if __name__ == "__main__":
    for reference in references():
        put_between(DOCS / reference.page, reference.marker, reference.text)
    OPENAPI.write_text(as_text(document_of()) + "\n", "utf-8")


def rows(text: str) -> list[list[str]]:
    """Collect the rows of all Markdown tables in a text, without their headings."""
    lines = [line.strip() for line in text.splitlines()]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    ruled = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-:")]
    return [row for number, row in enumerate(cells) if number not in ruled and number + 1 not in ruled]
