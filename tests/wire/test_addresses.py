"""A server on `::` serves IPv6 and IPv4, with one worker and with several alike."""

import socket
from contextlib import closing
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.support.in_process import AnnouncedServer, configure, serving_app
from tests.support.wire import GET, Wire

BOTH = ("::1", "127.0.0.1")

needs_ipv6 = pytest.mark.skipif(
    not Path("/proc/net/if_inet6").exists() or not socket.has_ipv6, reason="the machine has no IPv6"
)


async def respond_with_peer(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the address of the client."""
    if scope["type"] != "http":
        raise AssertionError("there is no lifespan")
    await Response(scope["client"][0])(scope, receive, send)


@needs_ipv6
def test_one_worker_on_all_addresses_serves_ipv6_and_ipv4() -> None:
    with serving_app(respond_with_peer, host="::") as server:
        for host in BOTH:
            with Wire(server.port, host=host) as wire:
                wire.send(GET % b"/")
                assert wire.answer().status == 200


@needs_ipv6
def test_shared_socket_of_several_workers_on_all_addresses_takes_both() -> None:
    with closing(configure(respond_with_peer, host="::", workers=2).bind_socket()) as listener:
        listener.listen()
        for host in BOTH:
            socket.create_connection((host, listener.getsockname()[1])).close()


@needs_ipv6
def test_address_in_use_is_reported_and_ends_the_start() -> None:
    with closing(configure(respond_with_peer, host="::1").bind_socket()) as listener:
        listener.listen()
        taken = configure(respond_with_peer, host="::1", port=listener.getsockname()[1])
        with pytest.raises(SystemExit) as end:
            AnnouncedServer(taken).run()
    assert end.value.code == 1
