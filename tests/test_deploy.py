"""What goes into production, held against the project: commands, paths, ports, limits and names of settings."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dotenv import dotenv_values
from sqlalchemy import URL
from starlette.types import Scope

from infrastructure.database.engine import HEALTH_CONNECTIONS
from infrastructure.environment import load_settings
from infrastructure.settings import FILE_NAMES, Settings, SettingsError
from infrastructure.timeouts import DEFAULT_TIMEOUTS
from interfaces.cli.main import app
from interfaces.http.middleware import BODY_MAX, DEFAULT_HEADERS
from interfaces.http.problems import MEDIA_TYPE, PROBLEMS, RETRY_AFTER_SECONDS
from interfaces.http.proxies import Proxies
from interfaces.server.config import CLIENTS_MAX
from tests.support.postgres import free_port
from tests.support.servers import serving

ROOT = Path(__file__).parent.parent
PORT = 8000
NAMES = {name.upper() for name in Settings.model_fields}
PACKAGES = ("domain", "application", "infrastructure", "interfaces", "migrations")
OTHER_CONNECTIONS = 13
"""Connections that no request uses: 10 for backups and people, 3 that PostgreSQL reserves for its superuser."""

STOP_SECONDS = Settings().drain_seconds + DEFAULT_TIMEOUTS.worker_stop + 2 * DEFAULT_TIMEOUTS.worker_ping
"""From a server's SIGTERM to its end, if a worker hangs: the supervisor looks every `worker_ping` seconds."""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def parse(words: list[str]) -> dict[str, Any]:
    """Read a call of the command as the command would, and tell its options."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    options: dict[str, Any] = command.make_context("agora", list(words)).params
    return options


# The image.


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: each instruction and what follows it."""
    lines = [line for line in read("Dockerfile").splitlines() if line and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in whole.splitlines()]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def of(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [words for instruction, words in stage if instruction == name]


def health_check() -> list[str]:
    (check,) = of(stages()[-1], "HEALTHCHECK")
    command: list[str] = json.loads(check.partition("CMD ")[2])
    return command


def is_in_context(path: str) -> bool:
    """Tell whether Docker's builder gets to see a file: the last pattern that names it or a folder of it decides."""
    seen = True
    for line in read(".dockerignore").splitlines():
        pattern = line.lstrip("!").removeprefix("**/")
        anywhere = "**/" in line
        folders = [path, *(str(parent) for parent in Path(path).parents if parent != Path())]
        names = [Path(folder).name for folder in folders] if anywhere else folders
        if line and not line.startswith("#") and any(fnmatch(name, pattern) for name in names):
            seen = line.startswith("!")
    return seen


def test_the_image_holds_every_package_and_its_requirements() -> None:
    sources = [source for words in of(stages()[0], "COPY") for source in words.split()[:-1]]

    assert sorted(sources) == sorted(
        [*PACKAGES, "requirements.txt", "pyproject.toml", "README.md", "LICENSE", "__main__.py"]
    )
    assert [source for source in sources if not (ROOT / source).exists() or not is_in_context(source)] == []
    assert is_in_context("infrastructure/data/common-passwords.txt")


@pytest.mark.parametrize(
    "path", [".env", ".env.production", ".git/config", "agora.db", "tests/conftest.py", "domain/__pycache__/posts.pyc"]
)
def test_nothing_else_gets_near_the_image(path: str) -> None:
    assert not is_in_context(path)


def test_the_final_image_has_what_was_installed_and_nothing_to_build_with() -> None:
    build, final = stages()

    assert [words for words in of(build, "RUN") if "--require-hashes --only-binary :all: -r requirements.txt" in words]
    assert "uninstall --yes setuptools" in of(build, "RUN")[-1]
    assert all("slim" in words for stage in (build, final) for words in of(stage, "FROM"))
    assert of(final, "COPY") == ["--from=build /opt/agora /opt/agora"]
    assert "/opt/agora/bin:" in of(final, "ENV")[0]
    assert not any(re.search(r"\b(pip|apt-get|apk)\b", words) for words in of(final, "RUN"))


def test_the_image_runs_a_python_that_the_project_supports() -> None:
    least = re.findall(r'requires-python = ">=(\d+)\.(\d+)"', read("pyproject.toml"))[0]
    image = re.findall(r"^ARG PYTHON=(\d+)\.(\d+)$", read("Dockerfile"), re.MULTILINE)[0]

    assert [int(part) for part in image] >= [int(part) for part in least]


def test_image_runs_as_an_unprivileged_user() -> None:
    final = stages()[-1]
    made = re.findall(r"--uid (\d+)", " ".join(of(final, "RUN")))

    assert of(final, "USER") == [f"{made[0]}:{made[0]}"]
    assert int(made[0]) > 0
    assert [name for name, _ in final].index("USER") < [name for name, _ in final].index("ENTRYPOINT")


def test_the_image_serves_production_and_no_shell_keeps_signals_from_it() -> None:
    final = stages()[-1]
    words: list[str] = json.loads(of(final, "ENTRYPOINT")[0]) + json.loads(of(final, "CMD")[0])

    assert words[0] == "agora"
    assert parse(words[1:]) == {"host": "0.0.0.0", "port": PORT, "workers": 1, "reload": False}
    assert of(final, "EXPOSE") == [str(PORT)]
    assert "FASTAPI_ENV=production" in of(final, "ENV")[0].split()


def test_the_image_is_healthy_exactly_while_its_server_is_up(database_of: Callable[[str], URL]) -> None:
    program, *words = health_check()
    assert program == "python"
    assert sum(word.count(str(PORT)) for word in words) == 1

    def is_healthy(port: int) -> bool:
        command = [sys.executable, *(word.replace(str(PORT), str(port)) for word in words)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    with serving(database_of("sqlite")) as server:
        assert is_healthy(server.port)
        assert server.end() == 0
    assert not is_healthy(free_port())


def test_auditing_tools_are_pinned_apart_from_what_they_audit() -> None:
    groups = tomllib.loads(read("pyproject.toml"))["dependency-groups"]
    pinned = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==", read("requirements-audit.txt"), re.MULTILINE)
    lines = [line for line in read("requirements-audit.txt").splitlines() if not line.startswith("    --hash=sha256:")]

    assert {re.split("[>=]", tool)[0] for tool in groups["audit"]} == {"cyclonedx-bom", "pip-audit"} <= set(pinned)
    assert len(lines) == len(pinned)
    assert read("requirements-audit.txt").count("--hash=") >= len(pinned)
    assert "fastapi" not in pinned
    assert "pip-audit" not in read("requirements-dev.txt")


# Compose.


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(read("compose.yaml"))
    return found


def seconds(text: str) -> int:
    return int(re.fullmatch(r"(\d+)s?", text)[1])  # type: ignore[index]  # another form should fail


def test_the_server_waits_for_the_migration_and_that_for_the_database(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["server"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert parse(services["migrate"]["command"]) == {"to": None, "yes": False}
    assert parse(services["server"]["command"]) == {"host": "0.0.0.0", "port": PORT, "workers": 4, "reload": False}


def test_compose_tells_agora_where_its_database_is(compose: dict[str, Any]) -> None:
    services, roles = compose["services"], read("deploy/roles.sql")

    assert "${" not in read("compose.yaml")
    for service, role in ((services["migrate"], "agora_owner"), (services["server"], "agora")):
        settings = service["environment"]
        assert service["env_file"] == ".env.production"
        assert {name for name in settings if settings[name]} <= NAMES | FILE_NAMES.keys()
        assert settings["DB_HOST"] in services
        assert settings["DB_USER"] == role
        assert f"CREATE ROLE {role} LOGIN" in roles
        assert f"CREATE DATABASE {settings['DB_NAME']} OWNER agora_owner" in roles
    named = dotenv_values(ROOT / ".env.production.example").keys() & (FILE_NAMES.keys() | {"DB_HOST", "DB_USER"})
    assert named <= services["server"]["environment"].keys() & services["migrate"]["environment"].keys()


def test_documented_commands_make_the_passwords_of_both_roles() -> None:
    steps = read("docs/operating.md").partition("### With systemd")[2].partition("### With Docker Compose")[0]
    files = re.findall(r"/run/secrets\}/(\w+)", read("deploy/roles.sql"))

    assert sorted(files) == ["db_owner_password", "db_password"]
    copied = re.findall(r"install -o postgres -m 0400 (.*) (\S+)$", steps, re.MULTILINE)[0]
    assert sorted(copied[0].split()) == [f"/etc/agora/{name}" for name in sorted(files)]
    assert f"SECRETS={copied[1]} psql --file=/opt/agora/deploy/roles.sql" in steps


def test_each_container_sees_the_secrets_that_it_names(compose: dict[str, Any]) -> None:
    used: dict[str, set[str]] = {}
    for name, service in compose["services"].items():
        files = {value for key, value in service["environment"].items() if key.endswith("_FILE") and value}
        used[name] = {Path(file).name for file in files}
        assert all(Path(file).parent == Path("/run/secrets") for file in files)
    used["postgres"] |= set(re.findall(r"/run/secrets\}/(\w+)", read("deploy/roles.sql")))

    assert used == {name: set(service["secrets"]) for name, service in compose["services"].items()}
    assert compose["secrets"] == {name: {"file": f"secrets/{name}"} for name in set().union(*used.values())}
    assert all(name in read("docs/operating.md") for name in compose["secrets"])
    assert "secrets/" in read(".gitignore").splitlines()
    assert not is_in_context("secrets/secret_key")


def test_server_listens_on_loopback_and_the_database_on_no_port(compose: dict[str, Any]) -> None:
    network = compose["networks"]["default"]["ipam"]["config"][0]
    server = compose["services"]["server"]

    assert server["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert "ports" not in compose["services"]["postgres"]
    assert server["environment"]["TRUSTED_PROXIES"] == network["gateway"]
    assert ip_address(network["gateway"]) in ip_network(network["subnet"])


def test_containers_have_no_rights_and_limited_resources(compose: dict[str, Any]) -> None:
    for name in ("postgres", "migrate", "server"):
        service = compose["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["ulimits"]["core"] == 0
        assert service["mem_limit"] == service["memswap_limit"] == "2g"
        assert service["pids_limit"] == 512
    postgres = compose["services"]["postgres"]
    assert postgres["user"] == "999:999"
    allowed = int(re.findall(r"max_connections=(\d+)", " ".join(postgres["command"]))[0])
    assert postgres["pids_limit"] >= 2 * allowed


def test_the_data_outlives_its_container(compose: dict[str, Any]) -> None:
    mount, roles = compose["services"]["postgres"]["volumes"]

    assert roles == "./deploy/roles.sql:/docker-entrypoint-initdb.d/roles.sql:ro"
    assert mount == "postgres:/var/lib/postgresql"  # where the images of PostgreSQL 18 and later keep it
    assert "postgres" in compose["volumes"]
    assert compose["services"]["postgres"]["image"] == "postgres:18"


def test_compose_gives_the_server_time_to_end_and_enough_of_everything(compose: dict[str, Any]) -> None:
    server, postgres = compose["services"]["server"], compose["services"]["postgres"]
    workers = parse(server["command"])["workers"]
    allowed = int(re.findall(r"max_connections=(\d+)", " ".join(postgres["command"]))[0])
    named_workers, connections = re.findall(r"(\d+) workers of \((\d+) \+ 1\)", read("compose.yaml"))[0]

    assert seconds(server["stop_grace_period"]) > STOP_SECONDS
    assert f"DRAIN_SECONDS, and {DEFAULT_TIMEOUTS.worker_stop:g} for" in read("compose.yaml")
    assert server["ulimits"]["nofile"] >= 2 * CLIENTS_MAX
    assert (int(named_workers), int(connections)) == (workers, Settings().database_connections)
    assert workers * (Settings().database_connections + HEALTH_CONNECTIONS) + OTHER_CONNECTIONS <= allowed


# The settings.


def test_the_sample_for_production_names_settings_and_holds_no_secret() -> None:
    named = dotenv_values(ROOT / ".env.production.example")

    assert named.keys() <= NAMES | FILE_NAMES.keys() - {"FASTAPI_ENV"}  # in a chosen file that would mean nothing
    assert not named.keys() & set(FILE_NAMES.values())


def test_the_sample_serves_once_its_secrets_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_ENV", "production")
    file = tmp_path / ".env.production"
    file.write_text(read(".env.production.example").replace("/etc/agora", str(tmp_path)))
    with pytest.raises(SettingsError, match="DB_PASSWORD_FILE: the file cannot be read"):
        load_settings(tmp_path)

    for name in ("db_password", "secret_key"):
        (tmp_path / name).write_text("0123456789abcdef" * 4 + "\n")
    settings = load_settings(tmp_path)

    settings.require_servable()
    assert settings.warnings() == []
    assert (settings.url.host, settings.url.port, settings.url.database) == ("localhost", 5432, "agora")


# nginx.


def directives(text: str) -> Iterator[tuple[str, list[str]]]:
    """Read a configuration: each directive, and its arguments; those of blocks come before what is in them."""
    words: list[str] = []
    for token in re.findall(r"""#.*|'[^']*'|"[^"]*"|[{};]|[^\s{};'"]+""", text):
        if token in "{};":
            if words:
                yield words[0], words[1:]
            words = []
        elif not token.startswith("#"):
            words.append(token[1:-1] if token[0] in "'\"" else token)


NGINX = list(directives(read("deploy/nginx.conf")))
OWN_PROBLEMS = list(directives(read("deploy/nginx-problems.conf")))


def all_of(name: str) -> list[list[str]]:
    return [words for directive, words in NGINX if directive == name]


def one(name: str) -> list[str]:
    (words,) = all_of(name)
    return words


def test_nginx_lets_through_what_agora_takes_and_no_more() -> None:
    assert one("client_max_body_size") == [f"{BODY_MAX // 2**20}m"]
    assert [seconds(one(name)[0]) for name in ("client_header_timeout", "client_body_timeout")] == [
        DEFAULT_TIMEOUTS.receive
    ] * 2
    assert seconds(one("proxy_send_timeout")[0]) <= DEFAULT_TIMEOUTS.receive


def test_nginx_asks_agora_where_it_listens_and_hangs_up_first() -> None:
    assert one("upstream") == ["agora"]
    assert all_of("server")[0] == [f"127.0.0.1:{parse(['serve'])['port']}", "max_fails=0"]
    assert one("proxy_pass") == ["http://agora"]
    assert seconds(one("keepalive_timeout")[0]) < Settings().keep_alive_seconds
    assert one("proxy_http_version") == ["1.1"]


def test_nginx_says_where_clients_come_from_and_is_believed() -> None:
    sent = dict(all_of("proxy_set_header"))
    assert sent["X-Forwarded-For"] == "$remote_addr"
    assert sent["X-Forwarded-Proto"] == "$scheme"
    assert sent["Forwarded"] == ""

    trusted = dotenv_values(ROOT / ".env.production.example")["TRUSTED_PROXIES"]
    proxies = Proxies((trusted or "").split(","))
    headers = [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-proto", b"https")]
    scope: Scope = {"type": "http", "scheme": "http", "client": ("127.0.0.1", 1), "headers": headers}

    assert proxies.client(scope) == "203.0.113.9"
    assert proxies.is_secure(scope)


def test_nginx_keeps_metrics_from_the_world() -> None:
    (pattern,) = [words[1] for words in all_of("location") if words[0] == "~"]

    assert all(re.search(pattern, path) for path in ("/metrics", "/metrics/"))
    assert not re.search(pattern, "/metrics/x")


def test_what_nginx_responds_itself_is_a_problem_with_our_headers() -> None:
    headers = {words[0]: words[1] for name, words in OWN_PROBLEMS if name == "add_header" and words[-1] == "always"}
    (body,) = [words[1] for name, words in OWN_PROBLEMS if name == "return"]
    texts = dict(directives(read("deploy/nginx.conf").split("map $status $agora_problem {")[1].split("}")[0]))

    for status, (text,) in texts.items():
        problem = json.loads(body.replace("$agora_problem", text).replace("$status", status.replace("default", "400")))
        assert problem.keys() == {"type", "title", "status", "detail", "instance"}
        if problem["type"] != "about:blank":
            ours = PROBLEMS[problem["type"].removeprefix("/problems/")]
            assert (ours.status, ours.title) == (problem["status"], problem["title"])
    assert ["default_type", [MEDIA_TYPE]] in [[name, words] for name, words in OWN_PROBLEMS]
    assert DEFAULT_HEADERS.items() <= headers.items()
    assert {"X-Request-ID", "Retry-After", "Strict-Transport-Security", "Access-Control-Allow-Origin"} <= headers.keys()
    assert texts.keys() >= {"default", "413", "414", "429", "503"}
    assert ["503", [str(RETRY_AFTER_SECONDS)]] in [[name, words] for name, words in NGINX]


def test_every_server_of_nginx_includes_its_problems() -> None:
    servers = re.split(r"^server \{$", read("deploy/nginx.conf"), flags=re.MULTILINE)[1:]

    assert len(servers) == 3
    assert all("include /etc/nginx/agora-problems.conf;" in server for server in servers)
    assert all("server_tokens off;" in server for server in servers)
    assert [server.count("default_server;") for server in servers] == [2, 2, 0]  # whatever else nginx serves
    assert "/etc/nginx/agora-problems.conf" in read("docs/operating.md")


def test_nginx_offers_forward_secrecy_only_and_redirects_nothing() -> None:
    (ciphers,) = one("ssl_ciphers")

    assert all(re.fullmatch(r"ECDHE-\w+-(\w+-GCM-SHA\d+|CHACHA20-POLY1305)", cipher) for cipher in ciphers.split(":"))
    assert all_of("ssl_protocols") == [["TLSv1.2", "TLSv1.3"]] * 2
    assert not [words for words in all_of("return") if words[0].startswith("3")]


# systemd.


@pytest.fixture
def service() -> dict[str, str]:
    """The unit: each name with its value; values of a name that stands there several times are joined."""
    found: dict[str, str] = {}
    for line in read("deploy/agora.service").partition("[Service]")[2].splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name] = f"{found[name]} {value}" if name in found else value
    return found


def test_the_unit_serves_production_from_where_it_is_installed(service: dict[str, str]) -> None:
    program, *words = shlex.split(service["ExecStart"])

    assert program == "/opt/agora/.venv/bin/agora"
    assert parse(words) == {"host": "127.0.0.1", "port": PORT, "workers": 4, "reload": False}
    assert "FASTAPI_ENV=production" in service["Environment"].split()
    assert f"{service['WorkingDirectory']}/.env.production" in read("docs/operating.md")


def test_the_unit_gives_the_server_time_to_end_and_files_enough(service: dict[str, str]) -> None:
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > STOP_SECONDS
    assert f"DRAIN_SECONDS, and {DEFAULT_TIMEOUTS.worker_stop:g} for" in read("deploy/agora.service")
    assert int(service["LimitNOFILE"]) >= 2 * CLIENTS_MAX


def test_the_unit_reloads_by_sighup_which_never_leaves_it_stopped(service: dict[str, str]) -> None:
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["RestartForceExitStatus"] == "SIGHUP"  # ends a single worker, and for systemd that is no failure


def test_the_unit_gives_the_server_no_rights(service: dict[str, str]) -> None:
    assert service["User"] not in {"root", ""}
    assert service["CapabilityBoundingSet"] == ""
    assert [service[name] for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp")] == ["true"] * 3
    assert service["ProtectSystem"] == "strict"


def test_the_unit_limits_memory_and_tasks_and_dumps_no_core(service: dict[str, str]) -> None:
    workers = parse(shlex.split(service["ExecStart"])[1:])["workers"]

    assert service["MemoryMax"] == "2G"
    assert workers * 300 + 100 <= 2048  # docs/operating.md: 300 MiB a worker
    assert service["OOMPolicy"] == "continue"  # the supervisor replaces the worker
    assert service["TasksMax"] == "512"
    assert service["LimitCORE"] == "0"


def test_the_unit_passes_secrets_as_credentials(service: dict[str, str]) -> None:
    credentials = dict(re.findall(r"^LoadCredential=([^\s:]+):(\S+)$", read("deploy/agora.service"), re.MULTILINE))
    files = dict(each.split("=") for each in service["Environment"].split() if "_FILE=" in each)
    sample = dotenv_values(ROOT / ".env.production.example")

    assert files.keys() == sample.keys() & FILE_NAMES.keys()
    assert {name: credentials[file.removeprefix("%d/")] for name, file in files.items()} == {
        name: sample[name] for name in files
    }
