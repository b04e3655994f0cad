"""TCP between processes on this machine that a test can cut, as if it were a network.

Where a connection leads is known by the address at which it was made, and where it comes from by
the process that made it, so nothing has to be set up in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

_CHUNK = 65536

Source = Callable[[int], str]
"""The name of who has made a connection, from its local port; empty if it is nobody who counts."""


class Network:
    """Passes connections on, unless the way between their ends is cut.

    On a way that is cut nothing gets through, not even the end of a connection, and new
    connections hear nothing. When it is healed, what was sent meanwhile arrives, as with TCP.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ways: dict[frozenset[str], _Way] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._thd_run, name="network", daemon=True)
        self._thread.start()

    def relay(self, address: str, to: Callable[[], tuple[str, int]], target: str, source: Source) -> int:
        """Listen for connections to an end.

        :param address: where to listen.
        :param to: where the end really is.
        :param target: the name of the end.
        :return: the port, which the kernel chooses.
        """

        async def listen() -> int:
            def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                serving = self._serve(reader, writer, to, target, source)
                task = self._loop.create_task(serving)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

            server = await asyncio.start_server(accepted, address, 0)
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        return self._do(listen())

    def cut(self, one: str, other: str) -> None:
        """Let nothing through between two ends, in either direction."""
        self._do(self._set(one, other, False))

    def heal(self, one: str, other: str) -> None:
        """Let everything through again."""
        self._do(self._set(one, other, True))

    def heal_all(self) -> None:
        """Let everything through between all."""

        async def heal() -> None:
            for way in self._ways.values():
                way.open.set()

        self._do(heal())

    def held(self, one: str, other: str) -> int:
        """How many bytes wait until it is healed, at least."""

        async def count() -> int:
            return self._way(one, other).held

        return self._do(count())

    def close(self) -> None:
        """End all connections, and listen no more."""
        if self._loop.is_closed():
            return
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # --- in the network's thread ----------------------------------------------

    def _thd_run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _set(self, one: str, other: str, is_open: bool) -> None:
        way = self._way(one, other)
        if is_open:
            way.open.set()
        else:
            way.open.clear()

    def _way(self, one: str, other: str) -> _Way:
        return self._ways.setdefault(frozenset((one, other)), _Way())

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to: Callable[[], tuple[str, int]],
        target: str,
        source: Source,
    ) -> None:
        try:
            name = source(writer.get_extra_info("peername")[1])
            if name:
                way = self._way(name, target)
                await way.open.wait()
                await _join(way, reader, writer, *await asyncio.open_connection(*to()))
        except* OSError:
            pass  # one side is gone, so the other one goes too
        finally:
            writer.transport.abort()


class _Way:
    """Between two ends, in both directions.

    :ivar open: whether something gets through.
    :ivar held: the bytes that wait for that.
    """

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.held = 0


async def _join(
    way: _Way,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there_reader: asyncio.StreamReader,
    there_writer: asyncio.StreamWriter,
) -> None:
    """Pass on in both directions until both have ended."""
    try:
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(_pump(way, reader, there_writer))
            pumps.create_task(_pump(way, there_reader, writer))
        for each in (writer, there_writer):
            each.close()
            await each.wait_closed()
    finally:
        there_writer.transport.abort()


async def _pump(way: _Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            way.held += len(data)
            await way.open.wait()
            way.held -= len(data)
            writer.write(data)
            await writer.drain()
    except OSError:
        await way.open.wait()
        raise
    await way.open.wait()
    writer.write_eof()


def process_with_port(processes: Callable[[], dict[str, int]]) -> Source:
    """Tells who has made a connection.

    :param processes: the process of each name that counts.
    """

    def find(port: int) -> str:
        for name, pid in processes().items():
            with contextlib.suppress(psutil.Error):
                connections = psutil.Process(pid).net_connections(kind="tcp4")
                if any(each.laddr and each.laddr.port == port for each in connections):
                    return name
        return ""

    return find
