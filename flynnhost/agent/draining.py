"""Whether this host is to get no more jobs from leaders."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen
from twisted.logger import Logger

from flynnhost.interfaces import IJournal, ISubscription


@define(eq=False)
class Draining:
    """It is on disk before anyone is told.

    :ivar now: how it is.
    """

    log = Logger()

    _journal: IJournal
    now: bool = field(init=False, default=False)
    _listeners: dict[_Listening, None] = field(init=False, factory=dict)

    async def set(self, draining: bool) -> None:
        """Have it so from now on.

        :raises JournalFailed: when that could not be written.
        """
        await self._journal.keep_draining(draining)
        if draining == self.now:
            return
        self.now = draining
        self.log.info("This host drains" if draining else "This host drains no longer")
        for listening in list(self._listeners):
            listening.listener(draining)

    def watch(self, listener: Callable[[bool], None]) -> ISubscription:
        """Have somebody told of each change."""
        listening = _Listening(self._listeners, listener)
        self._listeners[listening] = None
        return listening


@frozen(eq=False)
class _Listening:
    _all: dict[_Listening, None]
    listener: Callable[[bool], None]

    def cancel(self) -> None:
        """See ``ISubscription``."""
        self._all.pop(self, None)
