"""Hosts that are not there, that are something else, or that break off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from twisted.internet.defer import Deferred

from flynnhost.client import calls, errors
from flynnhost.client.address import HostAddress
from flynnhost.client.blocking import BlockingClient
from flynnhost.client.client import Client
from tests.support.served_host import in_the_reactor

WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def playing(*answers: bytes) -> Iterator[HostAddress]:
    """A server that answers each connection once, then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield HostAddress("127.0.0.1", server.getsockname()[1])
        thread.join(10)
        assert not thread.is_alive()


LOST = (errors.HostUnreachable, errors.BadAnswer, errors.BrokenOff)

BROKEN = [
    (b"", errors.HostUnreachable),
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        (errors.HostUnreachable, errors.BadAnswer, errors.BrokenOff),
    ),
    (CHUNKED + b'5\r\n{"sta\r\n', LOST),
    (b"SSH-2.0-OpenSSH\r\n", LOST),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", errors.BadAnswer),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope", errors.BadAnswer),
    (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n[]", errors.BadAnswer),
]


@pytest.mark.parametrize(("answer", "kind"), BROKEN)
def test_blocking(answer: bytes, kind: type[Exception]) -> None:
    with playing(answer) as address, BlockingClient(address) as client, pytest.raises(kind):
        client.run(calls.health())


@pytest.mark.parametrize(("answer", "kind"), BROKEN)
@in_the_reactor
async def test_twisted(answer: bytes, kind: type[Exception], clean_reactor: object) -> None:
    with playing(answer) as address:
        client = Client(clean_reactor, address)
        with pytest.raises(kind):
            await client.health()
        await client.close()


def test_connection_that_the_host_has_closed_meanwhile() -> None:
    """What only reads is asked again; what changes something is not."""
    with playing(WHOLE, WHOLE) as address, BlockingClient(address) as client:
        assert client.run(calls.health()) == {"status": "ok"}
        assert client.run(calls.health()) == {"status": "ok"}
    with playing(WHOLE) as address, BlockingClient(address) as client:
        client.run(calls.health())
        with pytest.raises(errors.HostUnreachable):
            client.run(calls.stop_job("j"))


@in_the_reactor
async def test_nobody_there(clean_reactor: object) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = HostAddress("127.0.0.1", taken.getsockname()[1])
        client = Client(clean_reactor, address)
        for asked in (client.health(), client.jobs(), client.leader()):
            with pytest.raises(errors.HostUnreachable):
                await asked
        await client.close()


@in_the_reactor
async def test_cancelling(clean_reactor: object) -> None:
    """A caller that gives up leaves nothing behind, which the fixture checks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(clean_reactor, HostAddress("127.0.0.1", server.getsockname()[1]))
        asked = Deferred.fromCoroutine(client.health())
        asked.addErrback(lambda _: None)
        asked.cancel()
        await client.close()
