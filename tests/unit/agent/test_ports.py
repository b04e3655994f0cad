"""Ports that are leased to jobs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flynnhost.agent.ports import PortLeases, port_is_free
from flynnhost.errors import NoPortsLeft, PortTaken
from flynnhost.model import Port

ANY = Port()
ANY_UDP = Port(proto="udp")
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@pytest.fixture
def bound() -> set[tuple[int, str]]:
    """What other programs have."""
    return set()


@pytest.fixture
def leases(bound: set[tuple[int, str]]) -> PortLeases:
    """The ports from 100 to 104."""
    return PortLeases(100, 104, lambda port, proto: (port, proto) not in bound)


def test_each_once(leases: PortLeases) -> None:
    """No number is leased twice, whatever the protocol."""
    taken = [*leases.lease("a", [ANY, ANY_UDP]), *leases.lease("b", [ANY_UDP, ANY, ANY])]
    assert taken == [100, 101, 102, 103, 104]
    assert leases.in_use == 5
    with pytest.raises(NoPortsLeft) as caught:
        leases.lease("c", [ANY])
    assert str(caught.value) == "no ports left between 100 and 104"


def test_longest_unused_first(leases: PortLeases) -> None:
    """A port that was given back is the last to be leased again."""
    leases.lease("a", [ANY, ANY])
    leases.release("a", [101, 100])
    assert leases.lease("b", [ANY] * 5) == (102, 103, 104, 101, 100)


def test_none_or_all(leases: PortLeases) -> None:
    """If one of a job's ports can't be had it gets none."""
    leases.lease("a", [ANY] * 3)
    for wanted in ([ANY, ANY, ANY], [ANY, Port(101)]):
        with pytest.raises((NoPortsLeft, PortTaken)):
            leases.lease("b", wanted)
        assert leases.in_use == 3
    assert sorted(leases.lease("b", [ANY, ANY])) == [103, 104]


def test_other_programs(leases: PortLeases, bound: set[tuple[int, str]]) -> None:
    """A port that another program has is passed over, and had when it is free again."""
    bound.update({(100, "tcp"), (101, "tcp"), (102, "udp")})
    assert leases.lease("a", [ANY, ANY_UDP]) == (102, 103)
    bound.update({(port, "tcp") for port in range(100, 105)})
    with pytest.raises(NoPortsLeft):
        leases.lease("b", [ANY])
    bound.clear()
    assert sorted(leases.lease("b", [ANY] * 3)) == [100, 101, 104]


def test_by_number(leases: PortLeases, bound: set[tuple[int, str]]) -> None:
    """A port can be asked for by its number, in the range or not, for one job at a time."""
    assert leases.lease("a", [Port(101), Port(80)]) == (101, 80)
    for port in (101, 80):
        with pytest.raises(PortTaken) as caught:
            leases.lease("b", [Port(port)])
        assert str(caught.value) == f"port {port} is taken by job a"
    bound.add((102, "udp"))
    with pytest.raises(PortTaken) as caught:
        leases.lease("b", [Port(102, "udp")])
    assert str(caught.value) == "port 102/udp is taken by another program"
    assert leases.lease("b", [Port(102), ANY, ANY, ANY]) == (102, 100, 103, 104)
    leases.release("a", [101, 80])
    assert leases.lease("c", [Port(80), ANY]) == (80, 101)


def test_by_number_for_two_protocols(leases: PortLeases) -> None:
    """A job can have a number for both protocols."""
    assert leases.lease("a", [Port(53, "tcp"), Port(53, "udp")]) == (53, 53)
    assert leases.in_use == 1
    leases.release("a", [53, 53])
    assert leases.in_use == 0


def test_kept(leases: PortLeases) -> None:
    """What a job held before the host was restarted is its own, until it is released."""
    leases.keep("a", [100, 103, 9000])
    assert leases.lease("b", [ANY] * 3) == (101, 102, 104)
    with pytest.raises(NoPortsLeft):
        leases.lease("c", [ANY])
    leases.release("a", [100, 103, 9000])
    assert leases.lease("c", [ANY, ANY]) == (100, 103)


def test_released_by_another(leases: PortLeases) -> None:
    """What a job does not hold it can't give back."""
    (port,) = leases.lease("a", [ANY])
    leases.release("b", [port])
    leases.release("a", [port + 1])
    assert leases.in_use == 1
    leases.release("a", [port])
    leases.release("a", [port])
    assert len(leases.lease("c", [ANY] * 5)) == len(set(range(100, 105)))


def test_nothing_grows(leases: PortLeases) -> None:
    """However often ports are leased, in whatever way, there are as many as there were."""
    for _ in range(100):
        leases.release("a", leases.lease("a", [Port(102)]))
        leases.keep("b", [103])
        leases.release("b", [103])
        leases.release("c", leases.lease("c", [ANY]))
    assert len(leases._unused) == 5
    assert leases.in_use == 0


# --- what the system says -----------------------------------------------------


# A loopback address that no other process uses, however many run this at once.
OURS = f"127.{64 + (os.getpid() >> 16)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


@pytest.fixture(params=["tcp", "udp"])
def proto(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def held() -> Iterator[dict[str, socket.socket]]:
    """A port of our address that is taken for both protocols: a socket each, to be closed at will.

    The system gives it to nobody who asks for just any port.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for port in (*range(20000, low), *range(high + 1, 65536)):
        with ExitStack() as stack:
            sockets = {proto: stack.enter_context(socket.socket(type=KINDS[proto])) for proto in KINDS}
            # As servers do; without it nobody could have the port while old connections have it.
            sockets["tcp"].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                for holder in sockets.values():
                    holder.bind((OURS, port))
                sockets["tcp"].listen()
            except OSError:
                continue  # a program has it on all addresses
            yield sockets
            return
    raise AssertionError("every port outside of the system's own range is taken")


@pytest.mark.parametrize("address", ["", OURS], ids=["any", "ours"])
def test_port_of_the_system(address: str, proto: str, held: dict[str, socket.socket]) -> None:
    """A port is not free while a program has it on the address, or on one of all."""
    port = held[proto].getsockname()[1]
    assert not port_is_free(address)(port, proto)


def test_other_protocol(held: dict[str, socket.socket], proto: str) -> None:
    """What is taken for one protocol can be free for the other."""
    port = held[proto].getsockname()[1]
    (other,) = held.keys() - {proto}
    held[other].close()
    assert port_is_free(OURS)(port, other)
    assert not port_is_free(OURS)(port, proto)


def test_port_in_time_wait(held: dict[str, socket.socket]) -> None:
    """A port that only old connections have is free."""
    port = held["tcp"].getsockname()[1]
    with socket.create_connection((OURS, port)) as client:
        server, _ = held["tcp"].accept()
        server.close()  # the one who closes first keeps it in TIME_WAIT
        client.recv(1)
    held["tcp"].close()
    with socket.socket() as plain, pytest.raises(OSError):
        plain.bind((OURS, port))
    assert port_is_free(OURS)(port, "tcp")


@pytest.mark.parametrize("address", ["192.0.2.1", "::2"])
def test_address_of_another_host(address: str, proto: str) -> None:
    """On an address that this host does not have no port is free."""
    assert not port_is_free(address)(50000, proto)
