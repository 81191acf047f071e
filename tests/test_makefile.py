"""What `make` does on a clean clone, by the commands that it would run."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NPM_LOCK = "tests/clients/package-lock.json"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def commands(folder: Path, target: str, *words: str, path: str = "") -> str:
    """The commands of a target in a clone without an environment."""
    for file in ("Makefile", "pyproject.toml", *(each.name for each in ROOT.glob("requirements*.txt")), NPM_LOCK):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    environment = {"PATH": f"{path}:/usr/bin:/bin"}
    done = subprocess.run(
        [str(shutil.which("make")), "--dry-run", target, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def uv(tmp_path: Path) -> Path:
    """A program of this name, which nothing runs."""
    file = tmp_path / "programs" / "uv"
    program(file, "exit 1")
    return file


def test_first_run_says_how_long_pip_takes(tmp_path: Path) -> None:
    shown = commands(tmp_path, "run", "UV=")

    said = shown.index("with pip: two to three minutes")
    assert said < shown.index("pip --disable-pip-version-check --quiet install --require-hashes -r requirements.txt")


def test_uv_on_the_path_installs(tmp_path: Path, uv: Path) -> None:
    shown = commands(tmp_path, "test", path=str(uv.parent))

    said = shown.index("with uv: some seconds")
    assert said < shown.index(
        f"{uv} pip install --quiet --python .venv/bin/python --require-hashes -r requirements.txt"
    )
    assert f"{uv} pip install --quiet --python .venv/bin/python --require-hashes -r requirements-dev.txt" in shown
    assert "-m pip" not in shown


def test_variable_uv_left_empty_uses_pip(tmp_path: Path, uv: Path) -> None:
    shown = commands(tmp_path, "run", "UV=", path=str(uv.parent))

    assert str(uv) not in shown
    assert "-m pip" in shown


def test_tests_say_how_long_they_take(tmp_path: Path) -> None:
    assert "minutes on two cores" in commands(tmp_path, "test")


def program(file: Path, script: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def interpreters(shown: str) -> dict[str, str]:
    """The interpreter that makes the environment of each version whose tests would run."""
    made = dict(re.findall(r"^(\S+) -m venv \.venv-(3\.\d+) ", shown, re.MULTILINE))
    environments = re.findall(r"^\.venv-(3\.\d+)/bin/pytest", shown, re.MULTILINE)
    assert sorted(environments) == sorted(made.values())
    return {version: python for python, version in made.items()}


def test_every_supported_python_of_the_path_is_tested(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    program(programs / "python3.12", "echo /opt/python3.12")
    program(programs / "python3.13", "echo python3.13: command not found >&2; exit 127")  # pyenv's, of an unset version
    program(programs / "python3.14", "echo /opt/python3.14")
    program(programs / "python3.99", "echo /opt/python3.99")

    shown = commands(tmp_path, "pythons", "UV=", "SUPPORTED=3.12 3.13 3.14", path=str(programs))

    assert interpreters(shown) == {"3.12": "/opt/python3.12", "3.14": "/opt/python3.14"}
    assert "Python 3.13 is not on this machine" in shown


def test_uv_finds_the_pythons_that_are_tested(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    program(programs / "uv", 'test "$*" = "python find --system --no-python-downloads 3.13" && echo /opt/uv/3.13')

    shown = commands(tmp_path, "pythons", path=str(programs))

    assert interpreters(shown) == {"3.13": "/opt/uv/3.13"}


def test_no_supported_python_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        commands(tmp_path, "pythons", "UV=", "SUPPORTED=3.97 3.98")

    assert "There is no Python of: 3.97 3.98" in failure.value.stderr


def test_supported_pythons_are_the_same_everywhere() -> None:
    found = re.search(r"^SUPPORTED := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert found
    supported = found[1].split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    prefix = "Programming Language :: Python :: 3."

    assert project["requires-python"] == f">={supported[0]}"
    assert [f"3.{each.removeprefix(prefix)}" for each in project["classifiers"] if each.startswith(prefix)] == supported
    assert f"Python {supported[0]} to {supported[-1]}" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("target", "last"), [("clients", ".venv/bin/pytest tests/clients"), ("openapi-lint", "spectral lint")]
)
def test_tools_for_clients_are_installed_from_their_locks(tmp_path: Path, target: str, last: str) -> None:
    shown = commands(tmp_path, target)

    python = shown.index("--python .venv-clients/bin/python install --require-hashes -r requirements-clients.txt")
    node = shown.index("npm ci --ignore-scripts")
    assert python < node < shown.index(last)
    assert "/.venv-clients/bin:" in shown[:node]


def test_npm_lock_file_pins_by_hash_and_names_no_host() -> None:
    text = (ROOT / NPM_LOCK).read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]

    assert "://" not in text
    assert [name for name, package in packages.items() if name and "sha512-" not in package.get("integrity", "")] == []
