"""Responses under way that would not end by themselves."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList

from flynnhost.errors import NotReady
from flynnhost.http.outflow import IOpen


@define(eq=False)
class OpenStreams:
    """All such responses, so that they can be ended when the host stops."""

    _open: set[IOpen] = field(init=False, factory=set)
    _closing: bool = field(init=False, default=False)
    _last: list[Callable[[], Deferred[None]]] = field(init=False, factory=list)

    def __len__(self) -> int:
        return len(self._open)

    def check(self) -> None:
        """Refuse to begin anything new once all are being closed.

        :raises NotReady: if so.
        """
        if self._closing:
            raise NotReady("the host is stopping")

    def add(self, stream: IOpen) -> None:
        """Keep track of a response until it is over."""
        self._open.add(stream)
        stream.when_over().addCallback(lambda _: self._open.discard(stream))

    def close_last(self, close: Callable[[], Deferred[None]]) -> None:
        """Have something that the responses need closed when the last of them is over.

        :param close: closes it at once. Fires when that is done; never fails. May be called again.
        """
        self._last.append(close)

    def close_all(self) -> Deferred[None]:
        """End all responses, and let none begin any more. Fires when the last is over, which is
        within ``outflow.CLOSE_WITHIN`` seconds; never fails. May be called again.
        """
        return Deferred.fromCoroutine(self._close_all())

    async def _close_all(self) -> None:
        self._closing = True
        waiters = [stream.when_over() for stream in self._open]
        for stream in list(self._open):
            stream.close()
        await DeferredList(waiters)
        await DeferredList([close() for close in self._last])
