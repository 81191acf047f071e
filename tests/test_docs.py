"""Documentation tests: what exists is documented, and what is documented exists."""

import re
from pathlib import Path

import pytest

from application.views import Action
from infrastructure.settings import Settings
from tests.support.reference import Reference, commands, references, rows

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = ("domain", "application", "infrastructure", "interfaces", "migrations", "tests")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_blocks(text))


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^ *```.*?\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


REFERENCES = list(references())


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda reference: reference.marker)
def test_generated_section_is_what_the_code_says(reference: Reference) -> None:
    begin, end = f"<!-- {reference.marker} -->\n", f"<!-- end of {reference.marker} -->\n"
    page = read(f"docs/{reference.page}")

    assert page.count(begin) == page.count(end) == 1
    assert page.partition(begin)[2].partition(end)[0].strip() == reference.text, "write it with: make docs"


def test_every_marker_has_a_generator() -> None:
    marked = {
        marker for page in PAGES for marker in re.findall(r"^<!-- (.+) -->$", page.read_text("utf-8"), re.MULTILINE)
    }
    written = {reference.marker for reference in REFERENCES} | {
        "results",
        "memory",
        "growth",
        "distributed",
    }  # benchmarks

    assert marked == written | {f"end of {marker}" for marker in written}


def test_sample_environment_names_exactly_the_settings() -> None:
    named = re.findall(r"^(?:# )?([A-Z0-9_]+)=", read(".env.example"), re.MULTILINE)

    assert sorted(named) == sorted(name.upper() for name in Settings.model_fields)


def test_log_page_lists_exactly_the_logged_events() -> None:
    (table,) = re.findall(r"^\| Event \|.*?\n\n", read("docs/logs.md"), re.MULTILINE | re.DOTALL)
    documented = {row[0].strip("`") for row in rows(table)}
    code = "\n".join(
        file.read_text(encoding="utf-8")
        for folder in ("infrastructure", "interfaces")
        for file in (ROOT / folder).rglob("*.py")
    )
    logged = set(re.findall(r'log\.(?:info|warning|error|exception)\(\s*"([^"]+)"', code)) - {"request", "security"}

    assert logged <= documented
    assert [event for event in documented if f'"{event}"' not in code] == []


def test_log_page_lists_exactly_the_actions_of_security_events() -> None:
    (table,) = re.findall(r"^\| Action \|.*?\n\n", read("docs/logs.md"), re.MULTILINE | re.DOTALL)

    assert [row[0].strip("`") for row in rows(table)] == list(Action)


def test_every_command_has_a_section_with_an_example() -> None:
    sections = re.split(r"^## `(agora[^`]*)`$", read("docs/cli.md"), flags=re.MULTILINE)[1:]
    documented = dict(zip(sections[::2], sections[1::2], strict=True))

    assert sorted(documented) == sorted(name for name, _ in commands())
    for name, section in documented.items():
        assert any(name in block for block in code_blocks(section)), f"{name} has no example"
        assert f"<!-- {name} -->" in section or not rows(section), f"the table of {name} is not written from the code"


def options_in(call: str) -> list[str]:
    return re.findall(r"(?<!\S)--[a-z-]+", call)


def test_every_named_option_exists() -> None:
    existing = {option for _, command in commands() for parameter in command.params for option in parameter.opts}
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    named = {option for line in lines for call in re.findall(r"agora [^`#|]*", line) for option in options_in(call)}

    assert named <= existing | {"--help", "--version", "--install-completion"}
    assert named


def parts_of_code(text: str) -> list[str]:
    return code_spans(text) + code_blocks(text)


def test_every_named_make_target_exists() -> None:
    existing = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    code = [part for page in PAGES for part in parts_of_code(page.read_text(encoding="utf-8"))]
    named = {target for part in code for target in re.findall(r"\bmake ([a-z-]+)", part)}

    assert named <= existing
    assert {"run", "test", "check"} <= named


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as links spell them: lower case, hyphens for spaces, no punctuation."""
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


def test_every_path_in_architecture_exists() -> None:
    spans = code_spans(read("docs/architecture.md"))
    paths = [span for span in spans if re.fullmatch(r"[.\w][\w.-]*(/[\w.-]*)*(/|\.(py|md|toml|mako|ini))", span)]

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert "interfaces/http/votes.py" in paths


def test_every_name_in_architecture_occurs_in_the_code() -> None:
    spans = code_spans(read("docs/architecture.md"))
    names = {
        span.removesuffix("()").rpartition(".")[2] for span in spans if re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", span)
    }
    names -= {"py", "md", "toml"}
    code = "\n".join(file.read_text(encoding="utf-8") for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    words = set(re.findall(r"\w+", code.replace(read("tests/test_docs.py"), "")))

    assert sorted(names - words) == []
    assert "CastVotes" in names


def test_every_decision_has_its_sections_and_is_listed() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    for decision in decisions:
        text = decision.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(decision.name[:4])}. ")
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "When to revisit"]
        title = text.partition("\n")[0].removeprefix("# ").partition(". ")
        assert f"- {title[0]}. [{title[2]}](adr/{decision.name})\n" in read("docs/architecture.md")
    assert len({decision.name[:4] for decision in decisions}) == len(decisions) > 20


def test_every_prohibition_names_an_existing_check() -> None:
    section = read("docs/architecture.md").partition("## What must never be\n")[2].partition("\n## ")[0]
    contracts = re.findall(r'^name = "(.+)"$', read("pyproject.toml"), re.MULTILINE)

    assert len(rows(section)) > 10
    for never, _, checks in rows(section):
        named = re.findall(r'"([^"]+)"', checks)
        tests = re.findall(r"`(tests/[^`]+)`", checks)
        assert named or tests, never
        assert set(named) <= set(contracts), never
        assert [test for test in tests if not (ROOT / test).exists()] == [], never
