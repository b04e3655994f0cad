"""The network of the cluster's tests passes everything on, and nothing where it is cut."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.network import Network, process_with_port

WITHIN = 10.0


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WITHIN)
        yield listening


@pytest.fixture
def port(network: Network, server: socket.socket) -> int:
    """Where connections of ``us`` to ``server`` are made."""
    us = process_with_port(lambda: {"init": 1, "us": os.getpid()})
    address = server.getsockname()
    return network.relay("127.0.0.1", lambda: address, "server", us)


def pair(server: socket.socket, port: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection."""
    client = socket.create_connection(("127.0.0.1", port), timeout=WITHIN)
    accepted, _ = server.accept()
    accepted.settimeout(WITHIN)
    return client, accepted


def hears_nothing(end: socket.socket) -> bool:
    """Whether nothing comes for a while, not even an end."""
    end.settimeout(0.2)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(WITHIN)
    return False


def test_what_is_said_and_ended(server: socket.socket, port: int) -> None:
    """All that is said arrives, a lot too, and an end after it."""
    client, accepted = pair(server, port)
    with client, accepted:

        def send() -> None:
            client.sendall(b"x" * 3_000_000)
            client.close()

        sending = threading.Thread(target=send)
        sending.start()
        received = 0
        while data := accepted.recv(65536):
            received += len(data)
        sending.join()
        assert received == 3_000_000


def test_nothing_passes_where_it_is_cut(network: Network, server: socket.socket, port: int) -> None:
    """Neither words nor ends pass; all of them do when it is healed."""
    client, accepted = pair(server, port)
    with client, accepted:
        network.cut("server", "us")
        accepted.sendall(b"to the client")
        client.sendall(b"to the server")
        assert hears_nothing(client)
        client.close()
        assert hears_nothing(accepted)
        assert network.held("us", "server") > 0
        network.heal("us", "server")
        assert accepted.recv(100) == b"to the server"
        assert accepted.recv(100) == b""


def test_new_connections_where_it_is_cut(network: Network, server: socket.socket, port: int) -> None:
    """A new connection hears nothing until it is healed."""
    network.cut("us", "server")
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as client:
        client.sendall(b"hello")
        assert hears_nothing(client)
        network.heal_all()
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(WITHIN)
            assert accepted.recv(100) == b"hello"


def test_other_ways_stay(network: Network, server: socket.socket, port: int) -> None:
    """What is cut for others is not for us."""
    network.cut("somebody", "server")
    client, accepted = pair(server, port)
    with client, accepted:
        client.sendall(b"hello")
        assert accepted.recv(100) == b"hello"


def test_an_end_that_is_gone(server: socket.socket, port: int) -> None:
    """Where nobody listens any more, connections end at once."""
    server.close()
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as client:
        assert client.recv(100) == b""


def test_nobody_who_counts(network: Network, server: socket.socket) -> None:
    """A connection of an unknown process is ended."""
    port = network.relay("127.0.0.1", server.getsockname, "server", process_with_port(lambda: {"init": 1}))
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as client:
        assert client.recv(100) == b""


def test_closing_while_it_is_cut(network: Network, server: socket.socket, port: int) -> None:
    """The network ends though something waits in it."""
    client, accepted = pair(server, port)
    with client, accepted:
        network.cut("us", "server")
        client.sendall(b"waits")
        network.close()
