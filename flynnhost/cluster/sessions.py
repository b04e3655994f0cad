"""All hosts' sessions, as the leader has them: who may join, how many at a time, and who is gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Periodic, Steps
from flynnhost.cluster.arrival import Arrival
from flynnhost.cluster.foreign import check_host_id
from flynnhost.cluster.host_session import HostSession, Stage
from flynnhost.cluster.membership import Membership
from flynnhost.cluster.past import MAX_PAST_JOBS
from flynnhost.cluster.state import ClusterState
from flynnhost.cluster.stored import Placed
from flynnhost.errors import InvalidField
from flynnhost.interfaces import ISessionTransport
from flynnhost.messages import BEAT, BEATS_MISSED, MAX_PAST, Campaign, Ended, EndedBefore, Hello

REPORTING_AT_ONCE = 32
"""How many hosts may report at a time, which bounds the memory that unfinished reports take."""

LIVELY_BEATS = 2
"""For how many beats a host that was heard keeps its ID from its own next process."""

_SWEEP = 1.0

_SWEEP_WEIGHT = 5
"""A sign of life, and the end of a session, cost as much as so many of what is done in one step."""

_STEP_WITHIN = 30.0
"""Seconds that a host has to introduce itself, and for each piece of its report."""


@define(eq=False)
class Sessions:
    """The sessions of one leader.

    No session has a timer: one sweep looks at when each was last heard.

    :param beat: seconds between two signs of life.
    :param outranked: told when a host has heard a higher term, with that.
    """

    log = Logger()

    _clock: IReactorTime
    _term: int
    _state: ClusterState
    _membership: Membership
    _confirmed: Callable[[], bool]
    _beat: float = BEAT
    _at_once: int = REPORTING_AT_ONCE
    _outranked: Callable[[int], None] = lambda _: None
    _open: dict[HostSession, None] = field(init=False, factory=dict)
    # The one session of each host that counts.
    _by_host: dict[str, HostSession] = field(init=False, factory=dict)
    _waiting: deque[HostSession] = field(init=False, factory=deque)
    _reporting: dict[HostSession, None] = field(init=False, factory=dict)
    _background: Background = field(init=False, factory=lambda: Background("the hosts' sessions"))
    _sweeping: Periodic = field(init=False)
    _swept: float = field(init=False, default=0.0)
    _stopped: bool = field(init=False, default=False)
    _admitting: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._sweeping = Periodic(
            self._clock, _SWEEP, self._sweep, "looking for hosts that are gone", self._background
        )

    def open(self, transport: ISessionTransport) -> HostSession:
        """A host has connected."""
        session = HostSession(self._clock, transport, self)
        if not self._open:
            self._swept = self._clock.seconds()
        self._open[session] = None
        self._sweeping.start(now=False)
        return session

    def invite(self, host_id: str) -> bool:
        """Ask a host to become a candidate, if it is connected. Says whether it is."""
        session = self._by_host.get(host_id)
        if session is None or session.stage is not Stage.JOINED:
            return False
        session.say(Campaign())
        return True

    def stop(self) -> Deferred[None]:
        """End all sessions. Fires when nothing goes on any more."""
        self._stopped = True
        self._sweeping.stop()
        for session in list(self._open):
            session.end("this host leads no longer")
        return self._background.cancel()

    # --- ISessions ------------------------------------------------------------

    def introduced(self, session: HostSession, hello: Hello) -> None:
        """See ``ISessions``: admit the host, or don't."""
        refusal = self._objection(hello)
        if refusal is not None:
            reason, retry = refusal
            self.log.warn("Host {host_id} is not admitted: {reason}", host_id=hello.host_id, reason=reason)
            session.end(reason, retry)
            if hello.highest_term > self._term:
                self._outranked(hello.highest_term)
            return
        known = self._by_host.get(hello.host_id)
        self._by_host[hello.host_id] = session
        if known is not None:
            known.end("another session of this host has begun")
        session.stage = Stage.WAITING
        self._waiting.append(session)
        self._admit()

    def _objection(self, hello: Hello) -> tuple[str, bool] | None:
        """Why a host can't join, and whether it may try again soon."""
        try:
            check_host_id(hello.host_id)
        except InvalidField as e:
            return str(e), False
        if hello.highest_term > self._term:
            return f"this is the leader of term {self._term}, and the host has heard a later one", True
        known = self._by_host.get(hello.host_id)
        if known is not None and known.hello is not None:
            return self._conflict(hello, known, known.hello)
        instance = self._membership.instance(hello.host_id)
        if instance is not None and instance != hello.instance:
            return "another host of this ID is in the cluster, or was until a moment ago", True
        return None

    def _conflict(self, hello: Hello, session: HostSession, known: Hello) -> tuple[str, bool] | None:
        if hello.instance != known.instance:
            return "another host of this ID is connected", True
        if hello.boot == known.boot:
            return None if hello.session > known.session else ("a later session of this host is there", True)
        if self._clock.seconds() - session.heard < self._beat * LIVELY_BEATS:
            return "another process of this host is connected", True
        return None

    def reported(self, session: HostSession, jobs: Mapping[str, Placed], ended: EndedBefore) -> None:
        """See ``ISessions``: the host is in the cluster from now on."""
        hello = session.hello
        if hello is not None and self._by_host.get(hello.host_id) is session:
            arrival = Arrival(
                hello.host_id,
                hello.attributes,
                jobs.values(),
                hello.instance,
                ended=ended.job_ids,
                ended_are_all=ended.all,
                draining=hello.draining,
                resources=hello.resources,
                addr=hello.addr,
            )
            self._membership.join(arrival, session)
        self._reporting.pop(session, None)
        self._admit()

    def created(self, session: HostSession, job: Placed) -> None:
        """See ``ISessions``."""
        if self._by_host.get(session.host_id) is session:
            self._state.report(job)

    def ended(self, session: HostSession, ended: Ended) -> None:
        """See ``ISessions``."""
        if self._by_host.get(session.host_id) is session:
            self._state.remove_job(session.host_id, ended.job_id, was_there=ended.taken)

    def draining(self, session: HostSession, draining: bool) -> None:
        """See ``ISessions``."""
        if self._by_host.get(session.host_id) is session:
            self._membership.set_draining(session.host_id, draining)

    def attributes(self, session: HostSession, attributes: Mapping[str, str]) -> None:
        """See ``ISessions``."""
        if self._by_host.get(session.host_id) is session:
            self._state.set_attributes(session.host_id, attributes)

    def over(self, session: HostSession) -> None:
        """See ``ISessions``: the host is down, unless another session took over."""
        self._open.pop(session, None)
        self._reporting.pop(session, None)
        if self._by_host.get(session.host_id) is session:
            del self._by_host[session.host_id]
        self._membership.lost(session.host_id, session)
        if not self._open:
            self._sweeping.stop()
        self._admit()

    # --- pacing ---------------------------------------------------------------

    def _admit(self) -> None:
        """Have as many hosts report as may at a time."""
        if self._admitting:
            return  # it goes on: this is of one who was just sent away
        self._admitting = True
        try:
            self._admit_all()
        finally:
            self._admitting = False

    def _admit_all(self) -> None:
        while self._waiting and len(self._reporting) < self._at_once and not self._stopped:
            session = self._waiting.popleft()
            if session.stage is not Stage.WAITING:
                continue
            if not self._confirmed():
                session.end("it is not certain that this host leads")
                continue
            self._reporting[session] = None
            session.welcome(self._term, self._beat, self._past_wanted())

    def _past_wanted(self) -> int:
        """Of how many jobs that have ended each host is to tell, for all hosts to get their share."""
        return min(MAX_PAST, MAX_PAST_JOBS // 2 // max(1, self._membership.count))

    # --- life -----------------------------------------------------------------

    async def _sweep(self) -> None:
        now = self._clock.seconds()
        if now - self._swept > self._beat:
            # Who was away can't tell who was silent: what they said may still wait to be read.
            for session in self._open:
                session.heard = session.came = now
        self._swept = now
        silent = now - self._beat * BEATS_MISSED
        stuck = now - _STEP_WITHIN
        quiet = now - self._beat + _SWEEP / 2
        steps = Steps(self._clock)
        for session in list(self._open):
            if session.stage is Stage.OVER:
                continue
            if session.heard <= silent:
                session.end("nothing was heard of the host")
                await steps.did(_SWEEP_WEIGHT)
            elif session.came <= stuck and session.stage in (Stage.NEW, Stage.REPORTING):
                session.end(f"the host did not get on while the session was {session.stage.value}")
                await steps.did(_SWEEP_WEIGHT)
            elif session.said <= quiet:
                session.beat()
                await steps.did(_SWEEP_WEIGHT)
