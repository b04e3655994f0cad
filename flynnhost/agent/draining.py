"""Whether this host is to get no more jobs from leaders."""

from __future__ import annotations

from attrs import define, field
from twisted.logger import Logger

from flynnhost.agent.listeners import Listeners
from flynnhost.interfaces import IJournal


@define(eq=False)
class Draining:
    """It is on disk before anyone is told.

    :ivar now: how it is.
    :ivar listeners: those who are told of each change.
    """

    log = Logger()

    _journal: IJournal
    now: bool = field(init=False, default=False)
    listeners: Listeners[bool] = field(init=False, factory=Listeners)

    async def set(self, draining: bool) -> None:
        """Have it so from now on.

        :raises JournalFailed: when that could not be written.
        """
        await self._journal.keep_draining(draining)
        if draining == self.now:
            return
        self.now = draining
        self.log.info("This host drains" if draining else "This host drains no longer")
        self.listeners.tell(draining)
