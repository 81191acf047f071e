"""The walls of the house stand, and each of them is seen to fall when somebody breaks it."""

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
LAYERS = ("domain", "application", "infrastructure", "interfaces")
PACKAGES = (*LAYERS, "migrations")
WALLS = tomllib.loads((HOUSE / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

INWARDS = "Layers point inwards"
APPLICATION_FEATURES = "Features do not know each other in the application"
HTTP_FEATURES = "Features do not know each other over HTTP"
INTERFACES = "The command line starts the server, which serves HTTP"
OUTSIDE_ROOTS = "Only the composition roots see the infrastructure"
INSIDE_ROOTS = "The composition roots see container, settings, logs and metrics only"
BELOW_TESTS = "Nothing that serves knows what tests and measures it"
CYCLES = "No cycles"

VIOLATIONS = [
    ("domain/posts.py", "import application.posts", INWARDS),
    ("domain/text.py", "from infrastructure.clock import SystemClock", INWARDS),
    ("application/posts.py", "from infrastructure.database.posts import SqlPostReader", INWARDS),
    ("application/app.py", "from interfaces.emails import require_email", INWARDS),
    ("infrastructure/container.py", "import interfaces.http.api", INWARDS),
    ("application/votes.py", "import application.posts", APPLICATION_FEATURES),
    ("application/users.py", "from application.sessions import SignIn", APPLICATION_FEATURES),
    ("interfaces/http/votes.py", "import interfaces.http.posts", HTTP_FEATURES),
    ("interfaces/http/posts.py", "from interfaces.http.users import router as users", HTTP_FEATURES),
    ("interfaces/server/worker.py", "import interfaces.cli.main", INTERFACES),
    ("interfaces/http/deps.py", "import interfaces.server.config", INTERFACES),
    ("interfaces/http/deps.py", "from interfaces.cli.users import app", INTERFACES),
    ("interfaces/http/posts.py", "import infrastructure.database", OUTSIDE_ROOTS),
    ("interfaces/http/posts.py", "from infrastructure.database.posts import SqlPostReader", OUTSIDE_ROOTS),
    ("interfaces/http/new.py", "import infrastructure.settings", OUTSIDE_ROOTS),
    ("interfaces/http/new/deep.py", "from infrastructure.settings import Settings", OUTSIDE_ROOTS),
    ("interfaces/http/__init__.py", "import infrastructure.clock", OUTSIDE_ROOTS),
    ("interfaces/emails.py", "from infrastructure import logs", OUTSIDE_ROOTS),
    ("interfaces/__init__.py", "import infrastructure.settings", OUTSIDE_ROOTS),
    ("interfaces/http/api.py", "import infrastructure.tokens", INSIDE_ROOTS),
    ("interfaces/cli/users.py", "from infrastructure.database.engine import Database", INSIDE_ROOTS),
    ("interfaces/cli/new.py", "from infrastructure import passwords", INSIDE_ROOTS),
    ("interfaces/http/api.py", "from infrastructure.common_passwords import LIST", INSIDE_ROOTS),
    ("domain/text.py", "import benchmarks.data", BELOW_TESTS),
    ("infrastructure/container.py", "from tests.fakes import MemoryThrottle", BELOW_TESTS),
    ("domain/errors.py", "import domain.users", CYCLES),
    ("application/ports/storage.py", "import application.app", CYCLES),
    ("infrastructure/database/pipeline.py", "import infrastructure.database.posts", CYCLES),
    ("interfaces/http/deps.py", "import interfaces.http.api", CYCLES),
]


FOREIGN = [
    ("domain/posts.py", "import sqlalchemy", "sqlalchemy"),
    ("domain/users.py", "from email_validator import validate_email", "email_validator"),
    ("domain/text.py", "import migrations", "migrations"),
    ("application/views.py", "import pydantic.fields", "pydantic"),
    ("application/new/__init__.py", "def late() -> None:\n    import fastapi", "fastapi"),
]

SHARED = {
    "application": {"app", "errors", "paging", "passwords", "ports", "views"},
    "interfaces.http": {
        "api",
        "deps",
        "drain",
        "etags",
        "fields",
        "middleware",
        "paging",
        "problems",
        "proxies",
        "routing",
    },
}
"""What is no feature, and may be used by all of them."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the house, to be damaged."""
    for package in (*LAYERS, "migrations"):
        shutil.copytree(HOUSE / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOUSE / "pyproject.toml", tmp_path)
    return tmp_path


def plant(file: Path, line: str) -> None:
    """Write a line at the end of a module, which may be a new one in a new package."""
    if not file.parent.exists():
        file.parent.mkdir()
        (file.parent / "__init__.py").touch()
    with file.open("a") as module:
        module.write(f"\n{line}\n")


def check_walls(house: Path) -> "subprocess.CompletedProcess[str]":
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([linter, "--no-cache"], cwd=house, capture_output=True, text=True, check=False)


def foreign_imports(house: Path, package: str, allowed: set[str]) -> set[str]:
    """Name what the modules of a package import from elsewhere, wherever in them the import stands."""
    found = set()
    for module in (house / package).rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(package if node.level else str(node.module).partition(".")[0])
    return found - allowed - sys.stdlib_module_names


def modules(package: str) -> set[str]:
    """Name the modules and packages right inside a package."""
    folder = HOUSE / package.replace(".", "/")
    return {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} - {
        "__init__"
    }


def test_all_walls_stand() -> None:
    done = check_walls(HOUSE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("file", "line", "wall"), VIOLATIONS)
def test_a_broken_wall_is_seen(copy: Path, file: str, line: str, wall: str) -> None:
    plant(copy / file, line)
    done = check_walls(copy)
    assert done.returncode == 1, done.stdout
    assert f"{wall} BROKEN" in done.stdout


def test_every_wall_has_been_seen_to_fall() -> None:
    assert {wall["name"] for wall in WALLS} == {wall for _, _, wall in VIOLATIONS}


def test_domain_imports_only_the_standard_library() -> None:
    assert foreign_imports(HOUSE, "domain", {"domain"}) == set()


def test_application_imports_only_the_standard_library_and_the_domain() -> None:
    assert foreign_imports(HOUSE, "application", {"application", "domain"}) == set()


@pytest.mark.parametrize(("file", "line", "package"), FOREIGN)
def test_a_foreign_import_in_the_core_is_seen(copy: Path, file: str, line: str, package: str) -> None:
    plant(copy / file, line)
    layer = file.partition("/")[0]
    assert foreign_imports(copy, layer, {"application", "domain"}) == {package}


@pytest.mark.parametrize("feature", ["users", "sessions", "posts", "votes"])
def test_a_feature_has_one_name_in_every_layer(feature: str) -> None:
    for package in ("domain", "application", "infrastructure.database", "interfaces.http"):
        assert feature in modules(package)


@pytest.mark.parametrize(
    ("package", "wall"), [("application", APPLICATION_FEATURES), ("interfaces.http", HTTP_FEATURES)]
)
def test_every_feature_stands_behind_the_wall_of_its_layer(package: str, wall: str) -> None:
    (walled,) = [contract["modules"] for contract in WALLS if contract["name"] == wall]
    assert {f"{package}.{module}" for module in modules(package) - SHARED[package]} == set(walled)


def test_every_feature_over_http_has_its_use_cases_under_the_same_name() -> None:
    features = modules("interfaces.http") - SHARED["interfaces.http"] - {"system"}
    assert features == modules("application") - SHARED["application"]


def test_domain_does_not_read_the_clock() -> None:
    clocks = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}
    called = [
        f"{module.name}:{node.lineno}"
        for module in (HOUSE / "domain").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in clocks
    ]
    assert called == []


@pytest.mark.parametrize("layer", ["domain", "application"])
def test_core_does_not_import_http(layer: str) -> None:
    imported = {
        name
        for module in (HOUSE / layer).rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert {name for name in imported if name.partition(".")[0] == "http"} == set()


def test_only_check_password_verifies_a_password() -> None:
    callers = {
        module.name for module in (HOUSE / "application").rglob("*.py") if "hasher.verify(" in module.read_text()
    }
    assert callers == {"passwords.py"}


def hashing_in_transactions(module: Path) -> set[str]:
    """Name the calls inside a unit of work that hash, or that are handed the hasher or CheckPassword."""
    return {
        f"{module.name}:{call.lineno}"
        for block in ast.walk(ast.parse(module.read_text()))
        if isinstance(block, ast.With) and any(".uow(" in ast.unparse(item) for item in block.items)
        for call in ast.walk(block)
        if isinstance(call, ast.Call) and any(name in ast.unparse(call) for name in ("hasher", "self.check"))
    }


def test_no_password_is_hashed_inside_a_transaction() -> None:
    assert set().union(*map(hashing_in_transactions, (HOUSE / "application").glob("*.py"))) == set()


def test_hashing_inside_a_transaction_is_found(tmp_path: Path) -> None:
    module = tmp_path / "users.py"
    module.write_text("with self.uow() as tx:\n    tx.users.add(self.hasher.hash(password))\n")
    assert hashing_in_transactions(module) == {"users.py:2"}
