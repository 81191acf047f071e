"""Requests that the OpenAPI document allows, and such as it forbids: every answer is one that the document names."""

from contextlib import suppress
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.support.fuzz import CHECKS, OPERATIONS, FuzzWorld, fuzzing


def answered(world: FuzzWorld, session: requests.Session, case: Any, role: str, *, theirs: bool) -> int:
    """Send a request as an account, with its own ids if asked for, and require a documented response."""
    person = world.people[role]
    headers = person.headers()
    if theirs:
        case.path_parameters = {name: person.theirs.get(name, value) for name, value in case.path_parameters.items()}
    if theirs and isinstance(case.body, dict):
        case.body = {name: person.theirs.get(name, value) for name, value in case.body.items()}
    answer = case.call(base_url=world.address, session=session, headers=headers, timeout=30)
    case.validate_response(answer, checks=CHECKS)
    status: int = answer.status_code
    return status


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_documented(world: FuzzWorld, operation: Any) -> None:
    statuses = []
    with requests.Session() as session:
        for mode in GenerationMode:

            @fuzzing()
            @given(operation.as_strategy(mode), st.sampled_from(sorted(world.people)), st.booleans())
            def send(case: Any, role: str, theirs: bool) -> None:
                statuses.append(answered(world, session, case, role, theirs=theirs))

            with suppress(Unsatisfiable):  # where an operation takes anything at all, nothing can be wrong
                send()
    assert statuses
