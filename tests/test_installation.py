"""The distribution: a wheel, installed where nothing else of the project is."""

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from zipfile import ZipFile

import pytest

from tests.support.command import environment
from tests.support.reference import OPENAPI

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]
COMMANDS = """
import sys
from agora.__main__ import main
import domain, migrations

print(domain.__file__, migrations.__file__, sep="\\n")
for words in ("migrate", "migrate --to 0003 --yes", "migrate", "doctor"):
    sys.argv = ["agora", *words.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
"""
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel, as pip would unpack it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installation")
    for name in PACKAGES:
        copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__"))
    for name in ("__main__.py", "pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source)
    words = [sys.executable, "-c", BUILD, str(source)]
    built = subprocess.run(words, cwd=source, capture_output=True, text=True, check=True)
    with ZipFile(source / built.stdout.split()[-1]) as wheel:
        wheel.extractall(folder)
    return folder


def python(installation: Path, folder: Path, *words: str) -> str:
    """Run a Python that imports the installation before this clone, and give its output."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(PYTHONPATH=str(installation), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_is_installed_below_agora(installation: Path) -> None:
    files = {file.relative_to(ROOT) for name in PACKAGES for file in (ROOT / name).rglob("*") if file.is_file()}
    expected = {Path("__main__.py"), *(file for file in files if "__pycache__" not in file.parts)}
    folder = installation / "agora"

    assert {each.name for each in installation.iterdir()} == {"agora", f"agora-{version('agora')}.dist-info"}
    assert {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()} == expected


def test_installed_command_finds_all_that_it_needs(installation: Path, tmp_path: Path) -> None:
    assert python(installation, tmp_path, "-m", "agora", "openapi") == OPENAPI.read_text("utf-8")

    said = python(installation, tmp_path, "-c", COMMANDS)
    assert [Path(file).relative_to(installation).parts[:2] for file in said.splitlines()[:2]] == [
        ("agora", "domain"),
        ("agora", "migrations"),
    ]
    assert "reverted 0004" in said
    assert "the schema is this release's" in said
