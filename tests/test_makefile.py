"""What `make run` does on a clean clone, by the commands that it would run."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def commands(folder: Path, target: str, *words: str, path: str = "") -> str:
    """The commands of a target in a clone without an environment."""
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder)
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
    program = tmp_path / "programs" / "uv"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    return program


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
