"""This host's session with whoever leads, kept up for as long as there is a leader."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Protocol

from attrs import define, evolve, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from flynnhost import messages
from flynnhost.agent.foreseeing import foresee
from flynnhost.agent.leader_requests import Request
from flynnhost.agent.leader_talk import LeaderTalk
from flynnhost.agent.taking import Taking
from flynnhost.background import Background, Backoff
from flynnhost.errors import FlynnHostError, NotReady, TookTooLong
from flynnhost.interfaces import IAgent, ISessionConnector, ISessionTransport, ISessionUser
from flynnhost.messages import Accepted, Hello, SetDraining

REST = 30.0
"""Seconds before another try after the leader has said that it is of no use."""

_LASTING = 5.0

SPREAD = 0.3
"""Seconds within which hosts come to a new leader, by chance."""


class ILeader(Protocol):
    """Who leads."""

    @property
    def addr(self) -> str:
        """Where its HTTP API is reached, as ``HOST:PORT``."""

    @property
    def term(self) -> int:
        """Its term."""


@frozen
class _End:
    """How a session ended.

    :param retry: whether another one may succeed soon.
    :param lasted: whether the leader had let this host in, and not just a moment ago.
    """

    reason: str
    retry: bool
    lasted: bool = False


@define(eq=False)
class LeaderSession(Service):
    """Holds the session. While it is lost it is tried again, after ever longer pauses.

    :param highest_term: the highest leader's term that this host has seen.
    :param instance: what tells this host from another that was given the same ID.
    :param boot: what tells this process from earlier ones of the host.
    :param chance: gives numbers from 0 to below 1.
    :param spread: see ``SPREAD``.
    :param invited: called when the leader wants this host to become a candidate.
    :param addr: where this host's HTTP API is reached, as ``HOST:PORT``.
    :ivar taking: takes what leaders send.
    """

    log = Logger()

    _clock: IReactorTime
    _agent: IAgent
    _highest_term: Callable[[], int]
    _connector: ISessionConnector
    _instance: str
    _boot: str
    _chance: Callable[[], float] = random.random
    _spread: float = SPREAD
    _invited: Callable[[], None] = lambda: None
    _addr: Callable[[], str] = lambda: ""
    _leader: ILeader | None = field(init=False, default=None)
    _welcomed_by: int = field(init=False, default=0)
    _numbers: count[int] = field(init=False, factory=lambda: count(1))
    taking: Taking = field(init=False)
    _keeping: Background = field(init=False, factory=lambda: Background("the session with the leader"))
    _background: Background = field(init=False, factory=lambda: Background("taking the leader's jobs"))

    def __attrs_post_init__(self) -> None:
        self.taking = Taking(self._clock, self._agent, self._highest_term)

    @property
    def joined_term(self) -> int:
        """The term of the leader that has let this host in, while that session goes on; else 0."""
        return self._welcomed_by

    def follow(self, leader: ILeader | None) -> None:
        """Hold the session with this leader from now on, or with none."""
        same = (
            leader is not None
            and self._leader is not None
            and (leader.addr, leader.term) == (self._leader.addr, self._leader.term)
        )
        if not same:
            self._leader = leader
            self._begin_anew()

    def startService(self) -> None:
        """Begin, if there is a leader."""
        super().startService()
        self._begin_anew()

    def stopService(self) -> Deferred[None]:
        """End the session. Fires when nothing of it runs any more."""
        super().stopService()
        over = DeferredList([self._keeping.cancel(), self._background.cancel()])
        return over.addCallback(lambda _: None)

    def _begin_anew(self) -> None:
        def begin(_: None) -> None:
            if self.running and self._leader is leader and leader is not None:
                self._keeping.run(self._keep(leader), "holding the session")

        leader = self._leader
        self._keeping.cancel().addCallback(begin)

    # --- one session after the other ------------------------------------------

    async def _keep(self, leader: ILeader) -> None:
        await deferLater(self._clock, self._spread * self._chance())
        backoff = self._backoff()
        while self._leader is leader and self.running:
            try:
                end = await self._session(leader)
            except NotReady as e:
                end = _End(str(e), True)
            else:
                if end.lasted:
                    backoff = self._backoff()
            if end.retry:
                self.log.info(
                    "No session with the leader at {addr}: {reason}", addr=leader.addr, reason=end.reason
                )
                await backoff.wait()
            else:
                self.log.error("The leader does not admit this host: {reason}", reason=end.reason)
                await deferLater(self._clock, REST * (0.5 + self._chance() / 2))

    def _backoff(self) -> Backoff:
        return Backoff(self._clock, 0.1, 5.0, self._chance)

    async def _session(self, leader: ILeader) -> _End:
        """Hold one session. Returns when it has ended."""
        over: Deferred[_End] = Deferred()
        talks: list[LeaderTalk] = []
        closing: list[bool] = []
        began = self._clock.seconds()

        def ended(reason: str, retry: bool) -> None:
            if not over.called and not closing:
                over.callback(_End(reason, retry))

        def begin(transport: ISessionTransport) -> ISessionUser:
            talks.append(self._talk(transport, ended))
            return talks[0]

        try:
            await self._connector.connect(leader.addr, begin)
            talks[0].begin()
            end = await over
            return evolve(end, lasted=self._welcomed_by > 0 and self._clock.seconds() - began > _LASTING)
        finally:
            self._welcomed_by = 0
            closing.append(True)
            for talk in talks:
                talk.end("this host ends it")

    def _talk(self, transport: ISessionTransport, ended: Callable[[str, bool], None]) -> LeaderTalk:
        hello = Hello(
            self._agent.host_id,
            self._instance,
            self._boot,
            next(self._numbers),
            self._highest_term(),
            dict(self._agent.attributes),
            dict(self._agent.resources),
            self._agent.draining,
            self._addr(),
        )
        return LeaderTalk(
            self._clock,
            transport,
            hello,
            self._agent,
            self.taking.on_the_way,
            self._highest_term,
            partial(foresee, self._agent, self._highest_term),
            self._take,
            self._welcomed,
            ended,
            self._set_draining,
            self._invited,
        )

    def _welcomed(self, term: int) -> None:
        self.log.info("This host reports to the leader of term {term}", term=term)
        self._welcomed_by = term
        if term > self._highest_term():
            # From now on earlier leaders are refused; nobody waits until that is on disk.
            self._background.run(self._remember(term), "remembering the term")

    async def _remember(self, term: int) -> None:
        try:
            await self._agent.accept([], term)
        except FlynnHostError as e:
            self.log.warn("The term {term} is not on disk yet: {reason}", term=term, reason=str(e))

    def _set_draining(self, talk: LeaderTalk, asked: SetDraining) -> None:
        self._background.run(self._drain(talk, asked), "saying whether this host drains")

    async def _drain(self, talk: LeaderTalk, asked: SetDraining) -> None:
        try:
            await self._agent.set_draining(asked.draining, asked.term)
        except TookTooLong as e:
            self.log.warn("The leader gets no answer: {reason}", reason=str(e))
        except FlynnHostError as e:
            refusal = messages.refusal(asked.request, e)
            if refusal is None:
                raise
            talk.say(refusal)
        else:
            talk.say(Accepted(asked.request, []))

    # --- jobs -----------------------------------------------------------------

    def _take(self, talk: LeaderTalk, request: Request) -> None:
        self._background.run(self._accept(talk, request), "taking jobs")

    async def _accept(self, talk: LeaderTalk, request: Request) -> None:
        """Take jobs, and say so, however long it takes: the leader commits late answers too."""
        try:
            accepted = await self.taking.take(request.jobs, request.encoded, request.term)
        except CancelledError:
            raise
        except Exception as e:
            # Of anything else the leader must think that it may be so or not.
            refusal = messages.refusal(request.number, e)
            if refusal is None:
                self.log.failure("While taking jobs of the leader")
                talk.end(str(e))
            else:
                talk.say(refusal)
        else:
            talk.say(Accepted(request.number, [int(job.status) for job in accepted]))
