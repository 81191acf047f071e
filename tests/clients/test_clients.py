"""Clients generated from docs/openapi.json call the real server. `make clients` runs these tests."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.servers import serving

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT = str(ROOT / "docs/openapi.json")
TOOLS = (ROOT / ".venv-clients/bin", HERE / "node_modules/.bin")

PYTHON = ("python", "-c", "import json, sys, {0} as it; print(json.dumps(it.tour(*sys.argv[1:])))")
NODE = (
    *("node", "--input-type=module", "--eval"),
    "import * as it from './built/{0}.js'; console.log(JSON.stringify(await it.tour(...process.argv.slice(1))))",
)
BUILD = ("tsc", "--project", "tsconfig.json")

GENERATORS: dict[str, Sequence[Sequence[str]]] = {
    "with_openapi_python_client.py": [
        (
            *("openapi-python-client", "generate", "--fail-on-warning", "--path", DOCUMENT),
            *("--meta", "none", "--output-path", "agora_client"),
        ),
        ("ruff", "check", "--isolated", "--select", "F", "agora_client"),
    ],
    "with_openapi_fetch.ts": [
        ("openapi-typescript", DOCUMENT, "--default-non-nullable", "false", "--output", "schema.ts"),
        BUILD,
    ],
    "with_hey_api.ts": [
        ("openapi-ts", "--input", DOCUMENT, "--output", "client", "--no-log-file"),
        BUILD,
    ],
}
"""What turns the document into a client, for each tour."""


def run(folder: Path, words: Sequence[str]) -> str:
    """Run a tool, and give its output."""
    path = os.pathsep.join([*map(str, TOOLS), os.environ["PATH"]])
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words[0]}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("tour", GENERATORS)
def test_generated_client_completes_the_tour(tour: str, tmp_path: Path, sqlite_template: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "agora.db")
    for name in (tour, "package.json", "tsconfig.json"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    for command in GENERATORS[tour]:
        run(tmp_path, command)
    *command, code = PYTHON if tour.endswith(".py") else NODE
    code = code.replace("{0}", Path(tour).stem)
    with serving(URL.create("sqlite", database=str(tmp_path / "agora.db"))) as server:
        said = run(tmp_path, [*command, code, server.address, "ann@example.com", "an unusual one"])

    version, stale, votes, titles, invalid = json.loads(said)
    assert (version, stale, votes, titles) == (2, "/problems/version-mismatch", 1, ["Plums", "Apples"])
    assert (invalid["status"], invalid["type"]) == (422, "/problems/validation")
    assert [(error["loc"], error["code"]) for error in invalid["errors"]] == [
        (["body", "title"], "string_too_short"),
    ]
