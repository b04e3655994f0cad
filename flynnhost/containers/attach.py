"""The standard streams of a container's own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import quote

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from flynnhost.containers import translate
from flynnhost.containers.calls import EngineCalls
from flynnhost.containers.hijack import EngineLine, EngineLines
from flynnhost.containers.input import EngineInput, InputOnly
from flynnhost.containers.log_stream import LogStream
from flynnhost.docker_frames import FrameDecoder
from flynnhost.errors import ContainerNotRunning
from flynnhost.interfaces import ContainerState, IInput, ILogReceiver, ILogStream

# Docker looks for keys that end the input of a TTY, and holds the first of them back until the next
# is typed. There are no keys for bytes like these.
_NO_DETACH_KEYS = ",".join(["%FF"] * 8)

_IN_TIME = 1.0


@define(eq=False)
class EngineAttach:
    """Attaches to containers of one engine.

    :param ask: has one of the ``EngineCalls`` done.
    """

    _reactor: IReactorTime
    _lines: EngineLines
    _ask: Callable[..., Deferred[Any]]

    def output(self, container_id: str, tty: bool, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """See ``IContainers.attach_output``."""
        return Deferred.fromCoroutine(self._output(container_id, tty, receiver))

    def input(self, container_id: str) -> Deferred[IInput]:
        """See ``IContainers.attach_input``."""
        return Deferred.fromCoroutine(self._input(container_id))

    async def _output(self, container_id: str, tty: bool, receiver: ILogReceiver) -> ILogStream:
        line = await self._attach(container_id, "stdout=1&stderr=1")
        try:
            if _has_ended(await self._state(container_id)):
                await self._in_time(line, container_id)
        except BaseException:
            line.abort()
            raise
        decoder = None if tty else FrameDecoder()
        stream = LogStream(line.deliver, receiver, line.abort, decoder)
        # Not before the caller has the stream.
        self._reactor.callLater(0, stream.begin)
        return stream

    async def _input(self, container_id: str) -> IInput:
        line = await self._attach(container_id, f"stdin=1&detachKeys={_NO_DETACH_KEYS}")
        try:
            if _has_ended(await self._state(container_id)):
                raise ContainerNotRunning(container_id)
        except BaseException:
            line.abort()
            raise
        way = EngineInput(line, self._reactor)
        line.deliver(InputOnly(way))
        return way

    async def _attach(self, container_id: str, streams: str) -> EngineLine:
        target = f"/containers/{quote(container_id, safe='')}/attach?stream=1&{streams}"
        return await self._lines.open(target, translate.looking_at(container_id))

    async def _state(self, container_id: str) -> ContainerState:
        state: ContainerState = await self._ask(EngineCalls.thd_inspect, container_id)
        return state

    async def _in_time(self, line: EngineLine, container_id: str) -> None:
        """Wait for the end of the output, or some of it, of a container that has ended.

        The engine agrees to attach to it, but nothing ever comes of that, unless it ended only afterwards;
        then the engine has passed the end on before it tells us.
        """

        def too_late(_result: object, _timeout: float) -> NoReturn:
            raise ContainerNotRunning(container_id)

        await line.something_came().addTimeout(_IN_TIME, self._reactor, too_late)


def _has_ended(state: ContainerState) -> bool:
    return state.started_at is not None and not state.running
