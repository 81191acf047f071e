"""The API as its OpenAPI document has it, and what every answer must be."""

import os
from collections.abc import Sequence
from typing import Any

import schemathesis
from dependency_injector import providers
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from infrastructure.container import Container
from infrastructure.settings import Settings
from interfaces.http.api import create_api

EXAMPLES = int(os.environ.get("AGORA_FUZZ_EXAMPLES", "3"))
"""How many requests are made up for each place where something can be sent."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def fuzzing(examples: int = EXAMPLES) -> settings:
    """Make up the same requests in every run, however slow the machine is."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def _document() -> dict[str, Any]:
    container = Container()
    container.settings.override(providers.Object(Settings()))
    return create_api(container).openapi()


DOCUMENT = _document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: Sequence[Any] = [
    SCHEMA[path][method.upper()] for path, item in DOCUMENT["paths"].items() for method in item
]
