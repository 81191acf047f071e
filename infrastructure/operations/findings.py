"""Findings of the doctor."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, with a remedy if there is one."""

    level: Level
    says: str
    remedy: str = ""


def ok(says: str) -> Finding:
    """Build a finding of the level ok."""
    return Finding(Level.OK, says)


def warning(says: str, remedy: str = "") -> Finding:
    """Build a finding of the level warning."""
    return Finding(Level.WARNING, says, remedy)


def problem(says: str, remedy: str) -> Finding:
    """Build a finding of the level problem."""
    return Finding(Level.PROBLEM, says, remedy)
