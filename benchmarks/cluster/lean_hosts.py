"""A process with thousands of simulated hosts.

usage: python -m benchmarks.cluster.lean_hosts COUNT

It reads commands, one a line, and answers each with one line of JSON: ``follow PORT`` has all hosts
end their sessions and begin new ones with the leader at that port of this machine; ``counts`` says
how many sessions and jobs there are, and how many sessions were lost unasked.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
from typing import Any

from attrs import define, field

from benchmarks.cluster.lean_host import LeanHost, NotUnderstood

BEAT = 5.0
_BEAT_TICKS = 50

_RETRY_AFTER = 0.2
"""Seconds, with some chance in it, before a host tries again to connect."""


@define(eq=False, slots=False)
class _Connection(asyncio.Protocol):
    """The way of one host to its leader."""

    _hosts: LeanHosts
    _number: int
    _transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """See the base class."""
        self._transport = transport
        host = self._hosts.hosts[self._number]
        host.write = transport.write
        self._hosts.open[self._number] = self
        host.connected()

    def data_received(self, data: bytes) -> None:
        """See the base class."""
        try:
            self._hosts.hosts[self._number].received(data)
        except NotUnderstood as e:
            self._hosts.last_trouble = str(e)
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """See the base class."""
        if self._hosts.open.pop(self._number, None) is not None:
            self._hosts.lost(self._number)

    def cut(self) -> None:
        """End the connection."""
        self._transport.abort()


@define(eq=False)
class LeanHosts:
    """All hosts of the process.

    :ivar open: the connections by the host's number.
    """

    _loop: asyncio.AbstractEventLoop
    count: int
    hosts: list[LeanHost] = field(init=False)
    open: dict[int, _Connection] = field(init=False, factory=dict)
    last_trouble: str = field(init=False, default="")
    _port: int = field(init=False, default=0)
    _lost: int = field(init=False, default=0)
    _connecting: dict[asyncio.Task[None], None] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.hosts = [LeanHost(host_name(number), _nowhere) for number in range(self.count)]

    def follow(self, port: int) -> None:
        """Begin sessions with another leader."""
        self._port = port
        connections, self.open = self.open, {}
        for connection in connections.values():
            connection.cut()
        for number in range(self.count):
            self._begin(number)

    def lost(self, number: int) -> None:
        """A session has ended, though nobody here wanted it."""
        self._lost += 1
        self._begin(number)

    def counts(self) -> dict[str, Any]:
        """What there is."""
        return {
            "sessions": len(self.open),
            "jobs": sum(host.count for host in self.hosts),
            "lost": self._lost,
            "trouble": self.last_trouble,
        }

    def tick(self, turn: int = 0) -> None:
        """Have some hosts give a sign of life, others at the next turn."""
        for number in range(turn, self.count, _BEAT_TICKS):
            if number in self.open:
                self.hosts[number].beat()
        self._loop.call_later(BEAT / _BEAT_TICKS, self.tick, (turn + 1) % _BEAT_TICKS)

    def _begin(self, number: int) -> None:
        task = self._loop.create_task(self._connect(number, self._port))
        self._connecting[task] = None
        task.add_done_callback(self._connecting.pop)

    async def _connect(self, number: int, port: int) -> None:
        while port == self._port:
            try:
                await self._loop.create_connection(lambda: _Connection(self, number), "127.0.0.1", port)
            except OSError as e:
                self.last_trouble = str(e)
                await asyncio.sleep(_RETRY_AFTER * (0.5 + random.random()))
            else:
                return


def host_name(number: int) -> str:
    """The ID of a simulated host."""
    return f"h{number}"


def allow_sockets(count: int) -> None:
    """Let this process have so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 200
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))
    if hard < wanted:
        sys.stderr.write(f"At most {hard} files may be open, where {wanted} are needed\n")


def _nowhere(data: bytes) -> None:
    raise NotUnderstood("there is no connection")


async def _serve(count: int) -> None:
    loop = asyncio.get_running_loop()
    hosts = LeanHosts(loop, count)
    hosts.tick()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command, *arguments = line.decode().split()
        if command == "follow":
            hosts.follow(int(arguments[0]))
        print(json.dumps(hosts.counts()), flush=True)


def main() -> None:
    """Run from the command line; ends with its standard input."""
    count = int(sys.argv[1])
    allow_sockets(count)
    asyncio.run(_serve(count))


if __name__ == "__main__":
    main()
