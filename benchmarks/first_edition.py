"""The first edition of Agora, checked out and installed beside this one."""

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

COMMIT: Final = "39160e8"
ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / ".venv-first-edition"
"""Its packages, and its files under `source`; outside version control, as other virtual environments."""


class FirstEditionError(Exception):
    """The first edition cannot be installed."""


def install() -> Path:
    """Install the first edition unless it is installed; return its command `agora`.

    Raises:
        FirstEditionError: git or pip failed.
    """
    command, installed, source = FOLDER / "bin" / "agora", FOLDER / "installed", FOLDER / "source"
    if installed.exists():
        return command
    shutil.rmtree(FOLDER, ignore_errors=True)
    _run([sys.executable, "-m", "venv", FOLDER])
    archive = _run(["git", "archive", COMMIT])
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source, filter="data")
    python = FOLDER / "bin" / "python"
    uv = shutil.which("uv")
    pip: list[str | Path] = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    _run([*pip, "--require-hashes", "-r", source / "requirements.txt"])
    _run([*pip, "--no-deps", "--no-build-isolation", "--editable", source])
    installed.touch()
    return command


def _run(command: Sequence[str | Path]) -> bytes:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        raise FirstEditionError(f"{command[0]} could not install the first edition (--peers leaves it out):\n{said}")
    return done.stdout
