"""Checks of a SQLite file and its folder, in which SQLite creates two more files."""

import getpass
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from infrastructure.operations.findings import Finding, ok, problem, warning


def check_files(file: Path) -> Iterator[Finding]:
    """Check a SQLite file and its folder, in which SQLite creates two more files."""
    me = _user()
    for folder in reversed(file.parents[1:]):
        if not _is_open(folder, os.X_OK) and folder.is_dir():
            yield problem(
                f"{me} cannot enter the folder {folder}, so {file} cannot be reached",
                f"run: chmod a+x {quote(str(folder))}; or name a file elsewhere in DATABASE_URL",
            )
            return
    if not file.parent.is_dir():
        yield problem(f"there is no folder {file.parent}", "create it, or name another one in DATABASE_URL")
        return
    if _is_open(file.parent, os.X_OK) and file.is_dir():
        yield problem(f"{file} is a folder, not a file", f"name a file in it: DATABASE_URL=sqlite:///{file}/agora.db")
        return
    found = []
    if not _is_open(file.parent, os.R_OK | os.W_OK | os.X_OK):
        found.append(
            problem(
                f"the folder {file.parent} is closed to {me}, and SQLite creates files in it",
                f"run: chown {me} {quote(str(file.parent))} && chmod u+rwx {quote(str(file.parent))}",
            )
        )
        if not _is_open(file.parent, os.X_OK):
            yield from found
            return
    files = [name for name in (file, Path(f"{file}-wal"), Path(f"{file}-shm")) if name.exists()]
    for name in files:
        found += _check_file(name, me)
    if not files and not found:
        found.append(problem(f"there is no database {file} yet", "run: agora migrate"))
    yield from found or [ok(f"the files of the database are open to {me} only")]


def _check_file(name: Path, me: str) -> Iterator[Finding]:
    if not name.is_file() or not _is_open(name, os.R_OK | os.W_OK):
        yield problem(
            f"{me} cannot read and write {name}",
            f"run: chown {me} {quote(str(name))} && chmod u+rw {quote(str(name))}",
        )
    mode = name.stat().st_mode
    if is_open_to_others(name.parent):
        if mode & stat.S_IWOTH:
            yield problem(f"every user of this machine can write {name}", f"run: chmod o= {quote(str(name))}")
        elif mode & stat.S_IROTH:
            yield warning(
                f"every user of this machine can read {name}, with e-mails and password hashes",
                f"run: chmod o= {quote(str(name))}",
            )


def is_open_to_others(folder: Path) -> bool:
    """Test whether every user of this machine can enter a folder."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents))


def is_reachable_file(file: Path) -> bool:
    """Test whether this process can see the file."""
    return os.path.isfile(file)  # noqa: PTH113 - Path.is_file() raises where a folder is closed to this process


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as containers have them
        return str(os.getuid())


def _is_open(path: Path, ways: int) -> bool:
    return os.access(path, ways, effective_ids=os.access in os.supports_effective_ids)
