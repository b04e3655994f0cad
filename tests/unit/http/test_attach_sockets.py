"""Attaching over real sockets: directions that end by themselves, and clients that are gone."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from flynnhost.attach_frames import STDIN, data_frame
from flynnhost.http import attach_stream
from flynnhost.http.connection import is_broken
from flynnhost.model import Artifact, Job
from flynnhost.testing.attachment import FakeAttachment
from tests.support.reactor import on_reactor
from tests.support.waiting import until
from tests.unit.http.test_attach import ALL, SWITCHING, encoded
from tests.unit.http.test_sockets import Served, read_to_end


@pytest.fixture
def served(clean_reactor: Any) -> Iterator[Served]:
    served = Served(clean_reactor)
    served.agent.accept([Job("j1", Artifact("busybox"))], 0)
    yield served
    pytest_twisted.blockon(Deferred.fromCoroutine(served.close()))


async def attached(served: Served) -> tuple[socket.socket, FakeAttachment]:
    """A client that is attached, and what it is attached to."""
    client = served.connect()
    client.sendall(encoded(ALL))
    answer = await deferToThread(client.recv, len(SWITCHING))
    assert answer == SWITCHING
    return client, served.agent.attachments[-1]


async def detached(served: Served, attachment: FakeAttachment) -> None:
    await until(served.reactor, lambda: ("detach",) in attachment.calls, "it to be detached")


@on_reactor
async def test_client_that_has_typed_everything(served: Served) -> None:
    """Who has ended the input may close that direction, and gets the rest."""
    client, attachment = await attached(served)
    client.sendall(data_frame(STDIN, b"typed") + data_frame(STDIN, b""))
    client.shutdown(socket.SHUT_WR)
    await until(served.reactor, lambda: ("end_input",) in attachment.calls, "the end of the input")
    assert attachment.typed == b"typed"
    attachment.client.output_received(1, b"x" * 1_000_000)
    attachment.client.exited(3)
    data = await deferToThread(read_to_end, client)
    assert data.count(b"x") == 1_000_000
    assert data.endswith(b"\x05\0\0\0\x03")
    await until(served.reactor, lambda: not len(served.streams), "the end of the connection")


@pytest.mark.parametrize("before", [b"", data_frame(STDIN, b"typed"), data_frame(STDIN, b"typed")[:3]])
@on_reactor
async def test_client_that_is_gone(served: Served, before: bytes) -> None:
    """Who closes the connection without having ended the input is gone."""
    client, attachment = await attached(served)
    client.sendall(before)
    client.close()
    await detached(served, attachment)


@on_reactor
async def test_client_that_sends_to_the_end(served: Served) -> None:
    """What a client still types does not take from it what the host has sent last."""
    client, attachment = await attached(served)
    typed = data_frame(STDIN, b"y" * 1_000_000)

    def type_on() -> bytes:
        try:
            for _ in range(20):
                client.sendall(typed)
        except ConnectionError:
            return b"the connection was reset"
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client)

    attachment.producer.pauseProducing()
    typing = deferToThread(type_on)
    attachment.client.output_received(1, b"x" * 1_000_000)
    attachment.client.exited(3)
    data = await typing
    assert data.count(b"x") == 1_000_000
    assert data.endswith(b"\x05\0\0\0\x03")


@on_reactor
async def test_silent_client_that_is_gone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client from which nothing is read for now is missed all the same."""
    monkeypatch.setattr(attach_stream, "LOOK_EVERY", 0.05)
    client, attachment = await attached(served)
    attachment.producer.pauseProducing()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await detached(served, attachment)


@on_reactor
async def test_silent_client_that_is_there(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is held back stays, and what it typed comes later."""
    monkeypatch.setattr(attach_stream, "LOOK_EVERY", 0.01)
    client, attachment = await attached(served)
    attachment.producer.pauseProducing()
    client.sendall(data_frame(STDIN, b"typed"))
    looks: list[bool] = []

    def look(transport: Any) -> bool:
        looks.append(is_broken(transport))
        return looks[-1]

    monkeypatch.setattr(attach_stream, "is_broken", look)
    await until(served.reactor, lambda: len(looks) > 3, "some looks")
    assert not any(looks)
    assert attachment.typed == b""
    attachment.producer.resumeProducing()
    await until(served.reactor, lambda: attachment.typed == b"typed", "what was typed")


@on_reactor
async def test_client_that_takes_its_time(served: Served) -> None:
    """A slow client holds its attachment back, and lets it go on when it has taken something."""
    client, attachment = await attached(served)
    written = 0
    while ("pause",) not in attachment.calls:
        attachment.client.output_received(1, b"x" * 65536)
        written += 65536
        assert written < 1 << 26
    received = 0
    while ("resume",) not in attachment.calls:
        received += (await deferToThread(client.recv, 1 << 20)).count(b"x")
    attachment.client.exited(0)
    received += (await deferToThread(read_to_end, client)).count(b"x")
    assert received == written


@on_reactor
async def test_keep_alive(served: Served) -> None:
    """The system looks after connections on which nothing happens."""
    await attached(served)
    connections = [
        reader.getHandle() for reader in served.reactor.getReaders() if "HTTPChannel" in repr(reader)
    ]
    assert [each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for each in connections] == [1]
