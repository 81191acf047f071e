"""Run mutmut over domain and application, and compare what survives with survivors.toml."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
COPIED = (
    "domain",
    "application",
    "infrastructure",
    "interfaces",
    "migrations",
    "tests",
    "pyproject.toml",
    "alembic.ini",
)
KILLED = {"killed", "timeout"}
MIN_KILLED = 0.85


def function_of(mutant: str) -> str:
    """Name the function of a mutant: domain.users.xǁLastAdminǁ__init____mutmut_2 is in LastAdmin.__init__."""
    name = re.sub(r"__mutmut_\d+$", "", mutant)
    return name.replace(".xǁ", ".").replace("ǁ", ".") if "ǁ" in name else name.replace(".x_", ".")


def run(folder: Path) -> dict[str, str]:
    """Run mutmut in a copy of the project; return the status of each mutant."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    mutmut = Path(sys.executable).with_name("mutmut")
    subprocess.run([mutmut, "run"], cwd=folder, check=True)
    listed = subprocess.run(
        [mutmut, "results", "--all", "true"], cwd=folder, check=True, capture_output=True, text=True
    )
    return dict(re.findall(r"^\s*(\S+__mutmut_\d+): (.+)$", listed.stdout, re.MULTILINE))


def main() -> None:
    """Print the figure and fail on survivors that are not listed, or listed ones that are killed."""
    with TemporaryDirectory() as folder:
        statuses = run(Path(folder))
    survivors = Counter(function_of(mutant) for mutant, status in statuses.items() if status not in KILLED)
    listed: Counter[str] = Counter()
    for entry in tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivors"]:
        listed.update(entry["mutants"])
    killed = 1 - survivors.total() / len(statuses)
    print(f"{len(statuses)} mutants, {killed:.1%} killed")  # noqa: T201 -- the report of a command
    problems = [
        *(
            f"{function}: {count} survive that {SURVIVORS.name} does not list"
            for function, count in sorted((survivors - listed).items())
        ),
        *(
            f"{function}: {count} listed in {SURVIVORS.name} are killed; lower the count"
            for function, count in sorted((listed - survivors).items())
        ),
    ]
    if killed < MIN_KILLED:
        problems.append(f"fewer than {MIN_KILLED:.0%} are killed; add tests")
    if problems:
        sys.exit("\n".join(problems))


main()
