"""Import contracts: the product keeps them, and a planted violation breaks each of them."""

import ast
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from itertools import accumulate
from pathlib import Path

import pytest
from grimp import ImportGraph, build_graph
from importlinter import ContractCheck
from importlinter.application import use_cases
from importlinter.configuration import configure
from importlinter.domain.contract import registry

from tests.support.walls import module_strings

configure()
ROOT = Path(__file__).parents[1]
OPTIONS = use_cases.read_user_options(str(ROOT / "pyproject.toml"))
PACKAGES = OPTIONS.session_options["root_packages"]
CONTRACTS = {contract["name"]: contract for contract in OPTIONS.contracts_options}

INWARDS = "Layers point inwards"
STANDARD_LIBRARY = "Domain and application import the standard library only"
NO_HTTP = "Domain and application know no HTTP"
APPLICATION_FEATURES = "Features do not know each other in the application"
HTTP_FEATURES = "Features do not know each other over HTTP"
INTERFACES = "The command line starts the server, and the server HTTP"
ROOTS = "Composition roots see listed infrastructure only"
NO_WEB = "Infrastructure knows no web framework"
DATABASES = "Databases use execution, never the reverse"
NO_DRIVER = "Execution knows no database driver"
GREENLETS = "Execution uses the greenlet functions of SQLAlchemy only"
BY_STRING = "No import by string"
BELOW_TESTS = "Nothing that serves knows what tests and measures it"
CYCLES = "No cycles"

VIOLATIONS = [
    ("domain.posts", "application.posts", INWARDS),
    ("domain.text", "infrastructure.clock", INWARDS),
    ("application.posts", "infrastructure.database.posts", INWARDS),
    ("application.app", "interfaces.emails", INWARDS),
    ("infrastructure.container", "interfaces.http.api", INWARDS),
    ("domain.posts", "sqlalchemy", STANDARD_LIBRARY),
    ("domain.users", "email_validator", STANDARD_LIBRARY),
    ("domain.text", "migrations", STANDARD_LIBRARY),
    ("application.views", "pydantic", STANDARD_LIBRARY),
    ("application.ports.storage", "fastapi", STANDARD_LIBRARY),
    ("application.new", "a_package_of_next_year", STANDARD_LIBRARY),
    ("domain.errors", "http", NO_HTTP),
    ("application.errors", "http", NO_HTTP),
    ("application.votes", "application.posts", APPLICATION_FEATURES),
    ("application.users", "application.sessions", APPLICATION_FEATURES),
    ("interfaces.http.votes", "interfaces.http.posts", HTTP_FEATURES),
    ("interfaces.http.posts", "interfaces.http.users", HTTP_FEATURES),
    ("interfaces.http.deps", "interfaces.cli.users", INTERFACES),
    ("interfaces.http.api", "interfaces.server.config", INTERFACES),
    ("interfaces.server.worker", "interfaces.cli.main", INTERFACES),
    ("interfaces.queue.consumer", "interfaces.http.deps", INTERFACES),
    ("interfaces.cli.users", "interfaces.mail.sender", INTERFACES),
    ("application.comments", "application.posts", APPLICATION_FEATURES),
    ("application.posts", "application.comments", APPLICATION_FEATURES),
    ("interfaces.http.comments", "interfaces.http.votes", HTTP_FEATURES),
    ("interfaces.http.posts", "infrastructure.database", ROOTS),
    ("interfaces.http.posts", "infrastructure.database.posts", ROOTS),
    ("interfaces.http.new", "infrastructure.settings", ROOTS),
    ("interfaces.http", "infrastructure.clock", ROOTS),
    ("interfaces.emails", "infrastructure.logs", ROOTS),
    ("interfaces", "infrastructure.settings", ROOTS),
    ("interfaces.http.api", "infrastructure.tokens", ROOTS),
    ("interfaces.http.api", "infrastructure.new", ROOTS),
    ("interfaces.cli.users", "infrastructure.database.engine", ROOTS),
    ("interfaces.cli.doctor", "infrastructure.execution.retry", ROOTS),
    ("interfaces.cli.new", "infrastructure.passwords", ROOTS),
    ("infrastructure.container", "fastapi", NO_WEB),
    ("infrastructure.logs", "uvicorn", NO_WEB),
    ("infrastructure.database.engine", "starlette", NO_WEB),
    ("infrastructure.execution.retry", "infrastructure.database.errors", DATABASES),
    ("infrastructure.database.engine", "infrastructure.operations.doctor", DATABASES),
    ("infrastructure.execution.threads", "psycopg2", NO_DRIVER),
    ("infrastructure.execution.limiter", "sqlite3", NO_DRIVER),
    ("infrastructure.execution.threads", "sqlalchemy", GREENLETS),
    ("domain.text", "benchmarks.data", BELOW_TESTS),
    ("infrastructure.container", "tests.fakes", BELOW_TESTS),
    ("domain.errors", "domain.users", CYCLES),
    ("application.ports.storage", "application.app", CYCLES),
    ("infrastructure.database.pipeline", "infrastructure.database.posts", CYCLES),
    ("interfaces.http.deps", "interfaces.http.api", CYCLES),
]


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    """The imports of the product, read once."""
    use_cases._register_contract_types(OPTIONS)
    return build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def check(contract: str, graph: ImportGraph) -> ContractCheck:
    options = CONTRACTS[contract]
    contract_type = registry.get_contract_class(options["type"])
    return contract_type(contract, OPTIONS.session_options, options).check(deepcopy(graph), verbose=False)


def plant(graph: ImportGraph, importer: str, imported: str) -> ImportGraph:
    """Add an import to a copy of the graph, and modules and packages that do not exist yet."""
    planted = deepcopy(graph)
    if imported.partition(".")[0] not in PACKAGES:
        imported = imported.partition(".")[0]
        planted.add_module(imported, is_squashed=True)
    for module in (importer, imported):
        for package in accumulate(module.split("."), "{}.{}".format):
            if package not in planted.modules:
                planted.add_module(package)
    planted.add_import(importer=importer, imported=imported, line_number=1, line_contents=f"import {imported}")
    return planted


def modules(package: str) -> set[str]:
    """Name a package's direct modules and packages."""
    folder = ROOT / package.replace(".", "/")
    return {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} - {
        "__init__"
    }


def test_make_walls_passes() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_make_walls_fails_on_a_planted_import(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests/support").mkdir(parents=True)
    shutil.copy(ROOT / "tests/support/walls.py", tmp_path / "tests/support")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = {
        "domain/posts.py": "def late() -> None:\n    import sqlalchemy",
        "infrastructure/execution/threads.py": "from sqlalchemy import create_engine",
        "interfaces/http/new.py": 'API = "infrastructure.container:Container"',
    }
    for file, lines in planted.items():
        with (tmp_path / file).open("a") as module:
            module.write(f"\n{lines}\n")
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    broken = set(re.findall(r"^(.+) BROKEN", done.stdout, re.MULTILINE))
    assert broken == {STANDARD_LIBRARY, GREENLETS, BY_STRING}


@pytest.mark.parametrize("contract", CONTRACTS)
def test_contract_is_kept(graph: ImportGraph, contract: str) -> None:
    assert check(contract, graph).kept


@pytest.mark.parametrize(("importer", "imported", "contract"), VIOLATIONS)
def test_planted_import_breaks_its_contract(graph: ImportGraph, importer: str, imported: str, contract: str) -> None:
    assert not check(contract, plant(graph, importer, imported)).kept


def test_greenlet_functions_may_be_imported(graph: ImportGraph) -> None:
    importers = graph.find_modules_that_directly_import("sqlalchemy")
    assert {name for name in importers if name.startswith("infrastructure.execution")}


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ('run("interfaces.http.api:serve")', True),
        ('run("infrastructure.database.engine")', True),
        ('run("interfaces")', False),
        ('run("see interfaces.http.api")', False),
    ],
)
def test_import_by_string_is_found(tmp_path: Path, line: str, is_found: bool) -> None:
    (tmp_path / "interfaces").mkdir()
    (tmp_path / "interfaces/new.py").write_text(line)
    assert bool(list(module_strings(tmp_path, ["interfaces", "infrastructure"], []))) is is_found


def test_every_contract_has_a_planted_violation() -> None:
    assert set(CONTRACTS) == {contract for _, _, contract in VIOLATIONS} | {BY_STRING}


@pytest.mark.parametrize("feature", ["users", "sessions", "posts", "votes"])
def test_feature_has_one_name_in_every_layer(feature: str) -> None:
    for package in ("domain", "application", "infrastructure.database", "interfaces.http"):
        assert feature in modules(package)


def test_http_features_have_the_names_of_use_case_modules() -> None:
    over_http, in_application = (
        modules(contract["package"]) - set(contract["shared"])
        for contract in (CONTRACTS[HTTP_FEATURES], CONTRACTS[APPLICATION_FEATURES])
    )
    assert over_http - {"system"} == in_application


def test_domain_does_not_read_the_clock() -> None:
    clocks = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}
    called = [
        f"{module.name}:{node.lineno}"
        for module in (ROOT / "domain").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in clocks
    ]
    assert called == []


def test_only_check_password_verifies_a_password() -> None:
    callers = {module.name for module in (ROOT / "application").rglob("*.py") if "hasher.verify(" in module.read_text()}
    assert callers == {"passwords.py"}


def hashing_in_transactions(module: Path) -> set[str]:
    """Find calls in a unit of work that hash or take the hasher or CheckPassword."""
    return {
        f"{module.name}:{call.lineno}"
        for block in ast.walk(ast.parse(module.read_text()))
        if isinstance(block, ast.With) and any(".uow(" in ast.unparse(item) for item in block.items)
        for call in ast.walk(block)
        if isinstance(call, ast.Call) and any(name in ast.unparse(call) for name in ("hasher", "self.check"))
    }


def test_no_password_is_hashed_inside_a_transaction() -> None:
    assert set().union(*map(hashing_in_transactions, (ROOT / "application").glob("*.py"))) == set()


def test_hashing_inside_a_transaction_is_found(tmp_path: Path) -> None:
    module = tmp_path / "users.py"
    module.write_text("with self.uow() as tx:\n    tx.users.add(self.hasher.hash(password))\n")
    assert hashing_in_transactions(module) == {"users.py:2"}
