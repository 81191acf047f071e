"""The static files of /docs and /redoc: compressed, cached under versioned names."""

import gzip
import re
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from mimetypes import guess_type
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response

from interfaces.http.pages import weight

COMPRESSED: Final = frozenset({".js", ".css"})

IMMUTABLE: Final = "public, max-age=31536000, immutable"

_REDOC_LOGO: Final = b'"https://cdn.redoc.ly/redoc/logo-mini.svg"'
_NO_LOGO: Final = b'''"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"'''
"""ReDoc has no option that leaves out its logo, which is on another host."""

_VERSION: Final = re.compile(r"\.[0-9a-f]{12}(?=\.[a-z]+$)")


def _files() -> dict[str, Path]:
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:  # pragma: no cover - a pinned dependency
        raise RuntimeError("fastapi-offline is not installed; run: make install")
    bundled = Path(spec.origin).parent / "static"
    ours = Path(__file__).parent / "assets"
    return {file.name: file for folder in (bundled, ours) for file in folder.iterdir()}


def _read(file: Path) -> bytes:
    return file.read_bytes().replace(_REDOC_LOGO, _NO_LOGO)


FILES: Final = _files()
_DIGESTS: Final = {name: sha256(_read(file)).hexdigest()[:12] for name, file in FILES.items()}


def static_path(name: str) -> str:
    """Build the path of a file, which changes with its content."""
    stem, _, suffix = name.rpartition(".")
    return f"/assets/{stem}.{_DIGESTS[name]}.{suffix}"


def static_response(versioned: str, headers: Headers) -> Response | None:
    """Build the response with a file, or None if there is none of this name.

    During an upgrade a page of the other release names the version that this one does not have: it gets this one's.
    """
    name = _VERSION.sub("", versioned)
    file = FILES.get(name)
    if file is None:
        return None
    is_compressed = file.suffix in COMPRESSED and weight(headers.get("Accept-Encoding", ""), "gzip", "*") > 0
    tag = f'"{_DIGESTS[name]}{"-gzip" if is_compressed else ""}"'
    sent = {"ETag": tag, "Vary": "Accept-Encoding"}
    if static_path(name) == f"/assets/{versioned}":
        sent["Cache-Control"] = IMMUTABLE
    if tag in re.findall('"[^"]*"', headers.get("If-None-Match", "")):
        return Response(status_code=304, headers=sent)
    if is_compressed:
        sent["Content-Encoding"] = "gzip"
    # Not a FileResponse: its response to a bad Range is not a problem document.
    return Response(_compressed(name) if is_compressed else _read(file), headers=sent, media_type=guess_type(name)[0])


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress(_read(FILES[name]), mtime=0)
