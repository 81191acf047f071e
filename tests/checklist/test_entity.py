"""The checklist "Add an entity": in a copy of the tree each line that is left out fails a test."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infrastructure.database.schema import STEPS
from tests.checklist.comments import LINES, TESTS, Edit, Line

ROOT = Path(__file__).parents[2]
COPIED = ("domain", "application", "infrastructure", "interfaces", "migrations", "tests")
FAILED = {1, 2, 4}  # a test, the import of a test module, the import of a conftest.py
REVISIONS = {"{revision}": f"{int(STEPS[-1]) + 1:04}", "{down_revision}": STEPS[-1]}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the checks run."""
    folder = tmp_path_factory.mktemp("agora")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for file in ROOT.glob("*.toml"):
        shutil.copy(file, folder)
    for file in (*ROOT.glob("*.py"), ROOT / "alembic.ini"):
        shutil.copy(file, folder)
    return folder


def numbered(text: str) -> str:
    for name, revision in REVISIONS.items():
        text = text.replace(name, revision)
    return text


def plant(tree: Path, left_out: Line | None) -> None:
    """Write every line of the checklist except one."""
    edits: list[tuple[Line | None, Edit]] = [(line, edit) for line in LINES for edit in line.edits]
    edits += [(None, edit) for edit in TESTS]
    files = {numbered(edit.file): (ROOT / numbered(edit.file)) for _, edit in edits}
    texts = {name: file.read_text() if file.exists() else "" for name, file in files.items()}
    for line, edit in edits:
        name = numbered(edit.file)
        if (line and line is left_out) or (
            left_out and edit.old not in texts[name]
        ):  # it stood in the line that is left out
            continue
        assert not edit.old or texts[name].count(edit.old) == 1, f"adapt tests/checklist/comments.py: {edit}"
        wanted = numbered(edit.new).replace("{0}", edit.old)
        texts[name] = texts[name].replace(edit.old, wanted) if edit.old else wanted
    for name, text in texts.items():
        if text:
            (tree / name).write_text(text)
        else:
            (tree / name).unlink(missing_ok=True)


def check(tree: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


def test_the_whole_checklist_passes(tree: Path) -> None:
    plant(tree, None)

    done = check(tree, tuple(sorted({test for line in LINES for test in line.check})))

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_line_that_is_left_out_fails_its_check(tree: Path, line: Line) -> None:
    plant(tree, line)

    done = check(tree, line.check)

    assert done.returncode in FAILED, done.stdout
