"""Asking the engine for parts of a container's output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote, urlencode

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from flynnhost.containers import translate
from flynnhost.containers.entries import Entry, FramedEntries, IEntryDecoder, TtyEntries
from flynnhost.containers.transfer import Transfer, Transfers
from flynnhost.docker_frames import BadFrame
from flynnhost.errors import EngineRefused, EngineUnavailable

#: How long nothing may come of a part that is being read. The engine first looks for its beginning.
SILENCE = 60.0


@frozen
class LogRequest:
    """What to ask the engine for.

    :param tail: how many entries from the end, of both streams; None for all.
    :param since_ns: only entries with this stamp or a later one.
    :param follow: go on with what comes, which the engine does not do reliably.
    """

    stdout: bool = True
    stderr: bool = True
    stamped: bool = True
    tail: int | None = None
    since_ns: int | None = None
    follow: bool = False


class ISnapshot(Protocol):
    """A part of the output as the engine gives it. Without ``follow`` it is what was there when it was asked
    for, however slowly it is read: the engine opens its files at the beginning.
    """

    def read(self) -> Deferred[list[Entry] | None]:
        """Fires with the next entries, at least one, and with None at the end.

        :raises EngineUnavailable: (as the Deferred's failure) when it breaks off.
        """

    def close(self) -> None:
        """Free all it holds. May be called again."""


class ILogSource(Protocol):
    """Where the output of one container comes from."""

    def ask(self, request: LogRequest) -> Deferred[ISnapshot]:
        """Fires when the engine has agreed.

        :raises NoSuchContainer: when the container is not there.
        :raises EngineUnavailable: when the engine is gone.
        """

    def running(self) -> Deferred[bool]:
        """Fires with whether the container runs, so that more may be written. Fails as ``ask`` does."""


@define(eq=False)
class _Snapshot:
    _clock: IReactorTime
    _transfer: Transfer
    _decoder: IEntryDecoder
    _follow: bool
    _ended: bool = False

    def read(self) -> Deferred[list[Entry] | None]:
        return Deferred.fromCoroutine(self._read())

    def close(self) -> None:
        self._transfer.close()

    async def _read(self) -> list[Entry] | None:
        entries: list[Entry] = []
        try:
            while not entries and not self._ended:
                waiting = self._transfer.read()
                if not waiting.called and not self._follow:
                    waiting.addTimeout(SILENCE, self._clock, _silent)
                data = await waiting
                self._ended = not data
                entries = self._decoder.feed(data) if data else self._decoder.end()
        except BadFrame as e:
            raise EngineRefused(f"the engine's answer makes no sense: {e}") from e
        return entries or None


@define(eq=False)
class EngineSource:
    """The output of one container of an engine.

    :param is_running: asks whether a container runs.
    """

    _clock: IReactorTime
    _transfers: Transfers
    _container_id: str
    _tty: bool
    _is_running: Callable[[str], Deferred[bool]]

    def ask(self, request: LogRequest) -> Deferred[ISnapshot]:
        """See ``ILogSource``."""
        return Deferred.fromCoroutine(self._ask(request))

    def running(self) -> Deferred[bool]:
        """See ``ILogSource``."""
        return self._is_running(self._container_id)

    async def _ask(self, request: LogRequest) -> ISnapshot:
        path = f"/containers/{quote(self._container_id, safe='')}/logs?{urlencode(_parameters(request))}"
        transfer = await self._transfers.get(path, translate.looking_at(self._container_id))
        decoder = TtyEntries() if self._tty else FramedEntries(request.stamped)
        return _Snapshot(self._clock, transfer, decoder, request.follow)


def _parameters(request: LogRequest) -> dict[str, str | int]:
    parameters: dict[str, str | int] = {
        "stdout": int(request.stdout),
        "stderr": int(request.stderr),
        "follow": int(request.follow),
        "timestamps": int(request.stamped),
        "tail": "all" if request.tail is None else request.tail,
    }
    if request.since_ns is not None:
        seconds, nanoseconds = divmod(request.since_ns, 1_000_000_000)
        parameters["since"] = f"{seconds}.{nanoseconds:09d}"
    return parameters


def _silent(_result: object, timeout: float) -> None:
    raise EngineUnavailable(f"no output in {timeout:g} s")
