"""Documentation as tested promises: what exists is documented, and what is documented exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families
from pydantic.fields import FieldInfo

from infrastructure.metrics import PrometheusMetrics
from infrastructure.settings import Settings, masked
from interfaces.cli.main import app
from interfaces.http.problems import PROBLEMS

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = ("domain", "application", "infrastructure", "interfaces", "migrations", "tests")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Collect the rows of the tables in a Markdown text, without their headings."""
    lines = [line.strip() for line in text.splitlines()]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    ruled = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-:")]
    return [row for number, row in enumerate(cells) if number not in ruled and number + 1 not in ruled]


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_blocks(text))


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^ *```.*?\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def accepted(field: FieldInfo) -> str:
    """Say which values a setting takes, where its type says it."""
    limits = {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le") if hasattr(rule, name)}
    if limits:
        return f"{limits['ge']} to {limits['le']}" if "le" in limits else f"{limits['ge']} or more"
    if field.annotation is bool:
        return "`true`, `false`"
    choices = get_args(field.annotation)
    return ", ".join(f"`{choice}`" for choice in choices if isinstance(choice, str)) or "text"


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    documented = {row[0]: row[1:] for row in rows(read("docs/settings.md"))}

    assert documented == {
        f"`{name.upper()}`": [f"`{masked(field.default)}`", accepted(field), field.description]
        for name, field in Settings.model_fields.items()
    }


def test_the_sample_environment_names_every_setting_and_no_other() -> None:
    named = re.findall(r"^(?:# )?([A-Z0-9_]+)=", read(".env.example"), re.MULTILINE)

    assert sorted(named) == sorted(name.upper() for name in Settings.model_fields)


def test_every_problem_is_documented_as_its_page_says_it() -> None:
    documented = {row[0]: row[1:] for row in rows(read("docs/problems.md"))}

    assert documented == {
        f"`{slug}`": [str(problem.status), problem.cause, problem.remedy] for slug, problem in PROBLEMS.items()
    }


def test_every_metric_is_documented_as_it_is_exposed() -> None:
    documented = {row[0]: row[1:] for row in rows(read("docs/metrics.md"))}
    metrics = PrometheusMetrics()
    metrics.answered("GET", "/posts", 200, 0.1)
    exposed = list(text_string_to_metric_families(metrics.page().decode()))

    assert documented == {
        f"`{family.name}{'_total' if family.type == 'counter' else ''}`": [
            family.type,
            ", ".join(f"`{label}`" for label in sorted({*family.samples[0].labels} - {"le"})) or "-",
            family.documentation,
        ]
        for family in exposed
    }


def commands(command: Any, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Walk the command line: each command with its options and their defaults."""
    for part, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {part}")
    if not hasattr(command, "commands"):
        yield name, {f"`{option}`": default(parameter) for parameter in command.params for option in parameter.opts}


def default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None:
        return "none"
    return "off" if parameter.default is False else f"`{parameter.default}`"


def test_every_command_is_documented_with_its_options_and_their_defaults() -> None:
    sections = re.split(r"^## `(agora[^`]*)`$", read("docs/cli.md"), flags=re.MULTILINE)[1:]
    documented = dict(zip(sections[::2], sections[1::2], strict=True))

    existing = dict(commands(typer.main.get_command(app), "agora"))

    assert {name: {row[0]: row[1] for row in rows(section)} for name, section in documented.items()} == existing
    for name, section in documented.items():
        assert any(name in block for block in code_blocks(section)), f"{name} has no example"


def options_in(call: str) -> list[str]:
    return re.findall(r"(?<!\S)--[a-z-]+", call)


def test_no_page_names_an_option_that_does_not_exist() -> None:
    existing = {
        option.strip("`") for _, options in commands(typer.main.get_command(app), "agora") for option in options
    }
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    named = {option for line in lines for call in re.findall(r"agora [^`#|]*", line) for option in options_in(call)}

    assert named <= existing | {"--help"}
    assert named


def parts_of_code(text: str) -> list[str]:
    return code_spans(text) + code_blocks(text)


def test_every_make_target_that_is_named_exists() -> None:
    existing = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    code = [part for page in PAGES for part in parts_of_code(page.read_text(encoding="utf-8"))]
    named = {target for part in code for target in re.findall(r"\bmake ([a-z-]+)", part)}

    assert named <= existing
    assert {"run", "test", "check"} <= named


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as links do: lower-cased, hyphens for spaces, other marks left out."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link} names no heading"


def test_every_path_in_the_architecture_exists() -> None:
    spans = code_spans(read("docs/architecture.md"))
    paths = [span for span in spans if re.fullmatch(r"[.\w][\w.-]*(/[\w.-]*)*(/|\.(py|md|toml|mako|ini))", span)]

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert "interfaces/http/votes.py" in paths


def test_every_name_in_the_architecture_occurs_in_the_code() -> None:
    spans = code_spans(read("docs/architecture.md"))
    names = {
        span.removesuffix("()").rpartition(".")[2] for span in spans if re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", span)
    }
    names -= {"py", "md", "toml"}
    code = "\n".join(file.read_text(encoding="utf-8") for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    words = set(re.findall(r"\w+", code.replace(read("tests/test_docs.py"), "")))

    assert sorted(names - words) == []
    assert "CastVote" in names


def test_every_decision_says_why_and_until_when() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    for number, decision in enumerate(decisions, start=1):
        text = decision.read_text(encoding="utf-8")
        assert decision.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
            "When to revisit",
        ]
        assert f"adr/{decision.name}" in read("docs/architecture.md")
    assert decisions
