"""A real nginx with the shipped configuration, as a process of the tests."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import free_port
from tests.support.reaper import passing_folder

DEPLOY = Path(__file__).parents[2] / "deploy"
HOST = "agora.example.com"
ORIGIN = "https://pages.example"
START_SECONDS = 20

MAIN = """daemon off;
pid {folder}/pid;
error_log {folder}/log warn;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    set_real_ip_from 127.0.0.1;
    real_ip_header X-Test-Address;
    include {folder}/agora.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx: its ports, and the certificate to trust."""

    https: int
    http: int
    certificate: Path

    def connect(self, *, name: str | None = HOST, version: ssl.TLSVersion | None = None) -> ssl.SSLSocket:
        """Open a TLS connection that asks for a name."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.check_hostname = name is not None
        if version is not None:
            context.minimum_version = context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", self.https), timeout=START_SECONDS)
        return context.wrap_socket(plain, server_hostname=name)


def find_nginx() -> str:
    """Find the program."""
    found = shutil.which(os.environ.get("NGINX", "nginx"), path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RuntimeError("nginx is missing; on Debian: apt install nginx; elsewhere name it in NGINX")
    return found


def configured(text: str, changes: dict[str, str]) -> str:
    """Change the places that operators change, and the ports; each pattern must be in the text."""
    for pattern, replacement in changes.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count, pattern
    return text


@contextmanager
def nginx(upstream: int) -> Iterator[Nginx]:
    """Run nginx with deploy/nginx.conf before a port of this machine."""
    with passing_folder("agora-nginx-", Path("/tmp")) as folder, _running(upstream, folder) as running:
        yield running


@contextmanager
def _running(upstream: int, folder: Path) -> Iterator[Nginx]:
    running = Nginx(free_port(), free_port(), folder / "certificate.pem")
    subject = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-days", "2", "-nodes"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", str(folder / "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", *key, *subject, "-out", str(running.certificate)], check=True, capture_output=True
    )
    shared = "/etc/nginx/agora-problems\\.conf"
    changes = {
        r"^ *listen \[::\].*\n": "",
        r"\blisten 443\b": f"listen 127.0.0.1:{running.https}",
        r"\blisten 80\b": f"listen 127.0.0.1:{running.http}",
        r"127\.0\.0\.1:8000": f"127.0.0.1:{upstream}",
        r"/etc/letsencrypt/\S+/fullchain\.pem": str(running.certificate),
        r"/etc/letsencrypt/\S+/privkey\.pem": str(folder / "key.pem"),
        f"include {shared}": f"include {folder}/problems.conf",
        r'^( *)# "https://app\.example\.com"': rf'\1"{ORIGIN}"',
    }
    (folder / "agora.conf").write_text(configured((DEPLOY / "nginx.conf").read_text(), changes))
    (folder / "problems.conf").write_text((DEPLOY / "nginx-problems.conf").read_text())
    user = "user daemon;" if os.geteuid() == 0 else ""
    (folder / "main.conf").write_text(MAIN.format(folder=folder, user=user))
    folder.chmod(0o755)
    process = subprocess.Popen(
        [find_nginx(), "-p", str(folder), "-c", str(folder / "main.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", running.http)).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    log = (folder / "log").read_text() if (folder / "log").exists() else ""
                    raise RuntimeError(f"nginx did not start:\n{log}") from None
                time.sleep(0.05)
        yield running
    finally:
        process.terminate()
        process.wait()
