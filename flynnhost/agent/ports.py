"""The host's ports that are leased to jobs."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence

from attrs import define, field

from flynnhost.errors import NoPortsLeft, PortTaken
from flynnhost.model import Port

PortCheck = Callable[[int, str], bool]


def port_is_free(address: str) -> PortCheck:
    """A check whether the system itself has a port of this address unbound.

    :param address: the IP address jobs' ports are published on; empty for all.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def check(port: int, proto: str) -> bool:
        kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
        try:
            with socket.socket(family, kind) as probe:
                if proto == "tcp":
                    # As Docker's own listener does: a port in TIME_WAIT is free.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError:
            return False
        return True

    return check


@define(eq=False)
class PortLeases:
    """Leases ports of a range to jobs, the longest unused first.

    A number is leased once, whatever the protocol, so that a job's ``PORT_n`` is its alone.

    :param first: the lowest port of the range.
    :param last: the highest port of the range.
    :param is_free: whether the system has a port unbound.
    """

    first: int
    last: int
    _is_free: PortCheck
    # The ports of the range that are not leased, the longest unused first.
    _unused: OrderedDict[int, None] = field(init=False)
    _leased: dict[int, str] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._unused = OrderedDict.fromkeys(range(self.first, self.last + 1))

    @property
    def in_use(self) -> int:
        """How many ports are leased."""
        return len(self._leased)

    def lease(self, job_id: str, wanted: Sequence[Port]) -> tuple[int, ...]:
        """Lease a port for each one wanted, or none.

        :raises NoPortsLeft: when the range has no free port left.
        :raises PortTaken: when a port that was asked for by its number is not free.
        """
        taken: list[int] = []
        try:
            for port in wanted:
                take = self._take_this if port.port else self._take_any
                taken.append(take(job_id, port))
        except (NoPortsLeft, PortTaken):
            self.release(job_id, taken)
            raise
        return tuple(taken)

    def keep(self, job_id: str, ports: Sequence[int]) -> None:
        """Take note of ports that a job holds already."""
        for port in ports:
            self._take(job_id, port)

    def release(self, job_id: str, ports: Sequence[int]) -> None:
        """Take a job's ports back; those of others are left alone."""
        for port in ports:
            if self._leased.get(port) == job_id:
                del self._leased[port]
                if self.first <= port <= self.last:
                    self._unused[port] = None

    def _take_any(self, job_id: str, port: Port) -> int:
        for _ in range(len(self._unused)):
            number = next(iter(self._unused))
            if self._is_free(number, port.proto):
                self._take(job_id, number)
                return number
            self._unused.move_to_end(number)
        raise NoPortsLeft(self.first, self.last)

    def _take_this(self, job_id: str, port: Port) -> int:
        holder = self._leased.get(port.port)
        if holder == job_id:
            return port.port  # once for tcp, once for udp
        if holder is not None:
            raise PortTaken(f"port {port.port} is taken by job {holder}")
        if not self._is_free(port.port, port.proto):
            raise PortTaken(f"port {port.port}/{port.proto} is taken by another program")
        self._take(job_id, port.port)
        return port.port

    def _take(self, job_id: str, number: int) -> None:
        self._leased[number] = job_id
        self._unused.pop(number, None)
