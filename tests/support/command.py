"""The command `agora`: in this process, which is quick, and the real one."""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryFile

from sqlalchemy import URL
from typer.testing import CliRunner

from infrastructure.settings import Settings
from interfaces.cli.main import main
from tests.support.forks import Forked
from tests.support.process import kept

COMMAND = Path(sys.executable).with_name("agora")
COMMAND_SECONDS = 60
NAMES = {name.upper() for name in Settings.model_fields}

CHEAP_HASHES = {"ARGON2_MEMORY_KIB": "8", "ARGON2_TIME_COST": "1"}
"""Settings of commands and servers: the usual hash takes 50 ms of processor time."""


class Ended:
    """How a command ended, and what it said; security events apart from other errors."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code = code
        self.output = output
        said = errors.splitlines(keepends=True)
        self.events = [line for line in said if "] security " in line or '"event": "security"' in line]
        self.errors = "".join(line for line in said if line not in self.events)

    def refused(self) -> str:
        """Tell the one line that said why it failed."""
        assert self.code == 1, self.output + self.errors
        assert self.output == ""
        assert self.errors.startswith("agora: ")
        assert self.errors.count("\n") == 1
        assert self.errors.endswith("\n")
        return self.errors

    def refused_in_the_log(self) -> str:
        """Tell the one line of the log that said why it failed, a JSON object."""
        assert self.code == 1, self.output + self.errors
        assert self.output == ""
        (line,) = map(json.loads, self.errors.splitlines())
        assert (line["event"], line["level"]) == ("cannot serve", "error")
        reason: str = line["reason"]
        return reason


def run(*words: str, typed: str | bytes = "", encoding: str = "utf-8") -> Ended:
    """Run the command in this process, with input for its prompts."""
    before = sys.argv
    sys.argv = ["agora", *words]
    code: object = 0
    try:
        with kept(), CliRunner(encoding).isolation(typed) as streams:
            try:
                main()
            except SystemExit as end:
                code = end.code
            sys.stdout.flush()
            sys.stderr.flush()
            output, errors = (stream.getvalue().decode(encoding) for stream in streams[:2])
    finally:
        sys.argv = before
    if isinstance(code, str):  # Python itself prints it
        return Ended(1, output, f"{errors}{code}\n")
    assert isinstance(code, int | None)
    return Ended(code or 0, output, errors)


def environment(**values: str) -> dict[str, str]:
    """An environment that sets what it names, cheap hashes, and no other of Agora's settings."""
    return {name: value for name, value in os.environ.items() if name not in NAMES} | CHEAP_HASHES | values


def run_command(*words: str, typed: str = "", **values: str) -> Ended:
    """Run the command in a process of its own, forked; a command that does not end is killed after a minute."""
    with TemporaryFile("w+") as given, TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        given.write(typed)
        given.seek(0)
        streams = given.fileno(), output.fileno(), errors.fileno()
        code = Forked(words, environment(**values), streams, session=False).wait(COMMAND_SECONDS)
        output.seek(0)
        errors.seek(0)
        return Ended(code, output.read(), errors.read())


def plain(url: URL) -> str:
    """Write an address as operators do."""
    return url.render_as_string(hide_password=False)
