"""OAuth2 over a real connection."""

import json

from tests.support.wire import GET, Wire

SIGN_IN = b"POST /login HTTP/1.1\r\nHost: agora\r\nContent-Length: 0\r\n\r\n"


def test_next_request_of_a_connection_has_no_oauth2_error(port: int) -> None:
    with Wire(port) as wire:
        wire.send(SIGN_IN + GET % b"/posts")  # pipelined: the second begins in the context of the first
        first, second = (json.loads(wire.answer().body) for _ in range(2))

    assert (first["status"], first["error"]) == (422, "invalid_request")
    assert (second["status"], second.get("error")) == (401, None)
