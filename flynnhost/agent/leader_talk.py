"""One session with a leader, from the introduction to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from flynnhost import messages
from flynnhost.agent.leader_outgoing import Outgoing
from flynnhost.agent.leader_report import JobReport
from flynnhost.agent.leader_requests import Request, Requests
from flynnhost.agent.on_the_way import OnTheWay
from flynnhost.errors import InvalidField, NotReady
from flynnhost.interfaces import IAgent, ISessionTransport
from flynnhost.messages import (
    BEAT,
    BEATS_MISSED,
    MAX_PAST,
    Beat,
    Bye,
    Campaign,
    Drop,
    FromHost,
    Hello,
    SetDraining,
    Submit,
    Take,
    Welcome,
)
from flynnhost.model import Job

_BEAT = messages.encode(Beat())


@define(eq=False)
class LeaderTalk:
    """An ``ISessionUser``.

    :param highest_term: the highest leader's term that this host has seen.
    :param foresee: raises what would keep the host from taking jobs.
    :param take: has jobs taken; the answer is to be given to ``say``.
    :param welcomed: called when the leader has let the host in, with the term.
    :param over: called once when the session has ended, with the reason and whether another one may
        succeed soon.
    :param set_draining: has it said whether this host drains; the answer is to be given to ``say``.
    :param invited: called when the leader wants this host to become a candidate.
    """

    log = Logger()

    _clock: IReactorTime
    _transport: ISessionTransport
    _hello: Hello
    _agent: IAgent
    _on_the_way: OnTheWay
    _highest_term: Callable[[], int]
    _foresee: Callable[[Sequence[Job], int], None]
    _take: Callable[[LeaderTalk, Request], None]
    _welcomed: Callable[[int], None]
    _told_over: Callable[[str, bool], None]
    _set_draining: Callable[[LeaderTalk, SetDraining], None]
    _invited: Callable[[], None]
    _outgoing: Outgoing = field(init=False)
    _report: JobReport = field(init=False)
    _requests: Requests = field(init=False)
    _beat: float = field(init=False, default=BEAT)
    _heard: float = field(init=False)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _ended: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._heard = self._clock.seconds()
        behind = partial(self.end, "the leader takes too little of what it is told")
        self._outgoing = Outgoing(self._clock, self._transport, behind)
        self._report = JobReport(self._agent, self._on_the_way, self._outgoing)
        self._requests = Requests(self._foresee, partial(self._take, self), self.say)

    def begin(self) -> None:
        """Introduce this host."""
        if self._ended:
            return
        self._transport.send(messages.encode(self._hello))
        self._timer = self._clock.callLater(self._beat, self._tick)

    def say(self, message: FromHost) -> None:
        """Send a message after all that waits, if the session goes on."""
        self._outgoing.say(message)

    def end(self, reason: str, retry: bool = True) -> None:
        """End the session."""
        if self._ended:
            return
        self._ended = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._report.stop()
        self._outgoing.stop()
        self._requests.clear()
        self._transport.close()
        self._told_over(reason, retry)

    # --- ISessionUser ---------------------------------------------------------

    def received(self, message: bytes) -> None:
        """See ``ISessionUser``."""
        if self._ended:
            return
        if self._silent():
            # This process may have stood still for long, and what it reads be long out of date.
            self.end("the leader was not heard of")
            return
        self._heard = self._clock.seconds()
        try:
            self._happened(messages.decode_from_leader(message))
        except InvalidField as e:
            self.log.error("The leader is not understood: {reason}", reason=str(e))
            self.end(str(e))

    def resumed(self) -> None:
        """See ``ISessionUser``."""
        self._outgoing.pump()

    def lost(self, reason: str) -> None:
        """See ``ISessionUser``."""
        self.end(reason)

    def _happened(self, message: messages.FromLeader) -> None:
        if isinstance(message, Welcome):
            self._admitted(message)
        elif isinstance(message, Submit):
            if not self._report.begun:
                raise InvalidField("type", "must not come before the welcome")
            self._requests.submitted(message)
        elif isinstance(message, Take):
            self._requests.take(message.request)
        elif isinstance(message, Drop):
            self._requests.drop(message.request)
        elif isinstance(message, SetDraining):
            self._set_draining(self, message)
        elif isinstance(message, Campaign):
            self._invited()
        elif isinstance(message, Bye):
            self.end(message.reason, message.retry)

    def _admitted(self, welcome: Welcome) -> None:
        if self._report.begun:
            raise InvalidField("type", "must not be welcome twice")
        if welcome.term < self._highest_term():
            self.end(f"its term {welcome.term} is over: this host has seen term {self._highest_term()}")
            return
        self._beat = max(0.1, welcome.beat)
        if self._timer is not None:
            self._timer.reset(self._beat)
        try:
            self._report.begin(min(welcome.past, MAX_PAST), self._hello)
        except NotReady as e:
            self.end(str(e))
            return
        self._welcomed(welcome.term)

    # --- life -----------------------------------------------------------------

    def _silent(self) -> bool:
        return self._clock.seconds() - self._heard > self._beat * BEATS_MISSED

    def _tick(self) -> None:
        if self._silent():
            self.end("the leader is silent")
            return
        self._timer = self._clock.callLater(self._beat, self._tick)
        # It goes before all that waits; and what the leader has not taken is a sign of life itself.
        if not self._transport.full:
            self._transport.send(_BEAT)
