"""Conventions for names and prose that neither ruff nor import-linter checks."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("domain", "application", "infrastructure", "interfaces", "migrations")
MAX_LINES = 400
MAX_TEST_NAME = 70
MAX_SUMMARY = 80

WORDS_FILE = ROOT / "tests/banned_words.txt"
WORDS = dict(line.split("  ") for line in WORDS_FILE.read_text().splitlines() if not line.startswith("#"))
BANNED = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
PROSE = {".py", ".md", ".toml", ".js", ".lua", ".yaml", ".yml", ".ini", ".mako", ".service", ".conf", ""}
EXEMPT = {"CHANGELOG.md", "LICENSE", str(WORDS_FILE.relative_to(ROOT))}

Violation = tuple[str, str]


def files(*folders: str) -> list[str]:
    """Python files in folders, relative to the project's root."""
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def written() -> list[str]:
    """Files whose prose is ours: neither data, nor generated, nor of another project."""
    folders = [ROOT / folder for folder in (*PRODUCT, "tests", "benchmarks", "docs", "deploy")]
    found = [
        *(path for path in ROOT.iterdir() if not path.name.startswith(".")),
        *(path for folder in folders for path in folder.rglob("*")),
    ]
    generated = {"data", "assets", "node_modules", "__pycache__"}
    return sorted(
        str(path.relative_to(ROOT))
        for path in found
        if path.is_file() and path.suffix in PROSE and not generated & set(path.relative_to(ROOT).parts)
    )


def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def banned_words(text: str) -> set[str]:
    """Find banned words, in names with underscores and across line ends too."""
    return {match.lower() for match in BANNED.findall(re.sub(r"[\s_#]+", " ", text))}


def in_banned_words() -> Iterator[Violation]:
    for file in written():
        if file not in EXEMPT:
            for word in banned_words(f"{file} {(ROOT / file).read_text(encoding='utf-8')}"):
                yield file, word


def in_module_length() -> Iterator[Violation]:
    for file in files(*PRODUCT):
        if (lines := len((ROOT / file).read_text().splitlines())) > MAX_LINES:
            yield file, f"{lines} lines"


def in_docstring_summaries() -> Iterator[Violation]:
    for file in files(*PRODUCT, "benchmarks"):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                if len(summary) > MAX_SUMMARY:
                    yield file, summary


def in_imports_of_tests() -> Iterator[Violation]:
    of_tests = re.compile(r"\b(?:test_\w+|conftest)\b")
    for file in files("tests"):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Import | ast.ImportFrom) and of_tests.search(ast.unparse(node)):
                yield file, ast.unparse(node)


def in_patches() -> Iterator[Violation]:
    for file in files("tests"):
        for node in ast.walk(tree(file)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)):
                continue
            called = ast.unparse(node.func).rpartition(".")[2]
            by_string = bool(node.args) and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
            if called in {"setattr", "delattr", "patch"} and by_string and "client" not in ast.unparse(node.func):
                yield file, ast.unparse(node)


def in_test_names() -> Iterator[Violation]:
    for file in files("tests"):
        for node in ast.walk(tree(file)):
            name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""
            if name.startswith("test_") and len(name) > MAX_TEST_NAME:
                yield file, name


def in_class_names() -> Iterator[Violation]:
    found = defaultdict(list)
    for file in files("tests"):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(file)
    yield from ((file, name) for name, where in found.items() if len(where) > 1 for file in where)


CHECKS = {
    "banned words": in_banned_words,
    "module length": in_module_length,
    "docstring summaries": in_docstring_summaries,
    "imports of tests": in_imports_of_tests,
    "patches by string": in_patches,
    "test names": in_test_names,
    "class names": in_class_names,
}


@pytest.mark.parametrize("check", CHECKS)
def test_convention_is_kept(check: str) -> None:
    assert sorted(set(CHECKS[check]())) == []


@pytest.mark.parametrize("example", WORDS.values())
@pytest.mark.parametrize(
    ("form", "space"),
    [("{}", " "), ("It is {} that waits.", " "), ("def test_{}_waits() -> None:", "_"), ("# often {}", "\n    # ")],
)
def test_banned_words_are_found(form: str, space: str, example: str) -> None:
    assert banned_words(form.format(example.replace(" ", space))) == {example}
    assert banned_words(form.format(example.replace(" ", space).upper())) == {example}


@pytest.mark.parametrize("example", WORDS.values())
def test_parts_of_other_words_are_not_banned(example: str) -> None:
    assert banned_words(f"x{example}x") == set()
