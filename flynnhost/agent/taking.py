"""Takes what leaders send, however long the disk needs for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from flynnhost.agent.on_the_way import OnTheWay
from flynnhost.errors import TookTooLong
from flynnhost.interfaces import IAgent
from flynnhost.model import ActiveJob, Job


@define(eq=False)
class Taking:
    """Has this host take jobs, and knows meanwhile that they are on the way.

    :param highest_term: the highest leader's term that this host has seen.
    :ivar on_the_way: jobs that leaders have sent, and of which it is not known yet whether this host
        has them.
    """

    log = Logger()

    _clock: IReactorTime
    _agent: IAgent
    _highest_term: Callable[[], int]
    on_the_way: OnTheWay = field(init=False, factory=OnTheWay)

    async def take(self, jobs: Sequence[Job], encoded: Mapping[str, bytes], term: int) -> list[ActiveJob]:
        """Take jobs. Returns them when they are on disk, and fails when it is certain that they are
        not, as ``IAgent.accept`` does but for ``TookTooLong``.

        :param encoded: their canonical forms by ID.
        """
        self.on_the_way.begin(encoded)
        try:
            taken = await self._take(jobs, term)
        except CancelledError:
            raise  # they may be taken yet
        except Exception:
            self.on_the_way.end(encoded)
            raise
        self.on_the_way.end(encoded)
        return taken

    async def _take(self, jobs: Sequence[Job], term: int) -> list[ActiveJob]:
        while True:
            try:
                return await self._agent.accept(jobs, term)
            except TookTooLong as e:
                self.log.warn("Still taking jobs of the leader: {reason}", reason=str(e))
                await deferLater(self._clock, 1)
                # Whoever leads by now was told that they are on the way, and must not hear
                # that they were refused while they are still being written.
                term = max(term, self._highest_term())
