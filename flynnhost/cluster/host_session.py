"""One host's session, as the leader has it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost import messages
from flynnhost.cluster.host_requests import HostRequests
from flynnhost.cluster.stored import Placed, placed_from
from flynnhost.errors import InvalidField, NotReady
from flynnhost.interfaces import IPrepared, ISessionTransport, Part
from flynnhost.messages import (
    Attributes,
    Beat,
    Bye,
    Created,
    Draining,
    Ended,
    EndedBefore,
    FromHost,
    Hello,
    Report,
    Welcome,
)
from flynnhost.model import JobStatus

_BEAT = messages.encode(Beat())


class Stage(enum.Enum):
    """How far a session is."""

    NEW = "new"
    WAITING = "waiting"
    REPORTING = "reporting"
    JOINED = "joined"
    OVER = "over"


class ISessions(Protocol):
    """What a session tells of itself."""

    def introduced(self, session: HostSession, hello: Hello) -> None:
        """The host has said who it is."""

    def reported(self, session: HostSession, jobs: Mapping[str, Placed], ended: EndedBefore) -> None:
        """The host has said which jobs it has, all of them, and which have ended."""

    def created(self, session: HostSession, job: Placed) -> None:
        """The host has a job."""

    def ended(self, session: HostSession, ended: Ended) -> None:
        """A job of the host has ended."""

    def draining(self, session: HostSession, draining: bool) -> None:
        """The host is to get no more jobs, or some again."""

    def attributes(self, session: HostSession, attributes: Mapping[str, str]) -> None:
        """Something else is said of the host: this is all of it."""

    def over(self, session: HostSession) -> None:
        """The session has ended."""


@define(eq=False)
class HostSession:
    """An ``ISessionUser`` and ``IHostLink``.

    :ivar heard: when the host has last said anything.
    :ivar said: when it was last told anything.
    :ivar came: when it last came a step nearer to having reported.
    """

    log = Logger()

    _clock: IReactorTime
    _transport: ISessionTransport
    _sessions: ISessions
    stage: Stage = field(init=False, default=Stage.NEW)
    hello: Hello | None = field(init=False, default=None)
    heard: float = field(init=False)
    said: float = field(init=False)
    came: float = field(init=False)
    _jobs: dict[str, Placed] = field(init=False, factory=dict)
    _ended_before: EndedBefore = field(init=False, default=EndedBefore([], True))
    # What it is asked from when it has joined.
    _requests: HostRequests | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.heard = self.said = self.came = self._clock.seconds()

    @property
    def host_id(self) -> str:
        """The host's ID; empty before it has introduced itself."""
        return "" if self.hello is None else self.hello.host_id

    # --- what the leader says -------------------------------------------------

    def say(self, message: messages.FromLeader) -> None:
        """Send a message, if the session goes on."""
        if self.stage is not Stage.OVER:
            self._send(messages.encode(message))

    def beat(self) -> None:
        """Give a sign of life. What the host has not taken yet is one too."""
        if not self._transport.full:
            self._send(_BEAT)

    def welcome(self, term: int, beat: float, past: int) -> None:
        """Have the host report; see ``Welcome``."""
        self.stage = Stage.REPORTING
        self.came = self._clock.seconds()
        self.say(Welcome(term, beat, past))

    def end(self, reason: str, retry: bool = True) -> None:
        """End the session, and say why."""
        if self.stage is not Stage.OVER:
            self.say(Bye(reason, retry))
            self._over(reason)
            self._transport.close()

    def _send(self, data: bytes) -> None:
        self.said = self._clock.seconds()
        self._transport.send(data)

    # --- IHostLink ------------------------------------------------------------

    def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
        """See ``IHostLink``."""
        return fail(self._not_there()) if self._requests is None else self._requests.submit(part, term)

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        """See ``IHostLink``."""
        return fail(self._not_there()) if self._requests is None else self._requests.prepare(part, term)

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        """See ``IHostLink``."""
        if self._requests is None:
            return fail(self._not_there())
        return self._requests.set_draining(draining, term)

    def _not_there(self) -> NotReady:
        return NotReady(f"host {self.host_id} is not connected")

    # --- ISessionUser ---------------------------------------------------------

    def received(self, message: bytes) -> None:
        """See ``ISessionUser``."""
        if self.stage is Stage.OVER:
            return
        self.heard = self._clock.seconds()
        try:
            self._heard(messages.decode_from_host(message))
        except InvalidField as e:
            self.log.error("Host {host_id} is not understood: {reason}", host_id=self.host_id, reason=str(e))
            self.end(str(e))

    def resumed(self) -> None:
        """See ``ISessionUser``."""

    def lost(self, reason: str) -> None:
        """See ``ISessionUser``."""
        self._over(reason)

    def _heard(self, message: FromHost) -> None:
        if isinstance(message, Beat):
            return
        if isinstance(message, Hello):
            self._check_stage(Stage.NEW)
            self.hello = message
            self._sessions.introduced(self, message)
        elif isinstance(message, Report):
            self._check_stage(Stage.REPORTING)
            self._report(message)
        elif isinstance(message, EndedBefore):
            self._check_stage(Stage.REPORTING)
            self._note_ended(message)
        elif self._requests is None:
            raise self._misplaced()
        elif isinstance(message, Created):
            self._sessions.created(self, placed_from(self.host_id, bytes(message.job)))
        elif isinstance(message, Ended):
            self._sessions.ended(self, message)
        elif isinstance(message, Draining):
            self._sessions.draining(self, message.draining)
        elif isinstance(message, Attributes):
            self._sessions.attributes(self, message.attributes)
        else:
            self._requests.answered(message)

    def _report(self, report: Report) -> None:
        self.came = self.heard
        for job in report.jobs:
            placed = placed_from(self.host_id, bytes(job))
            self._jobs[placed.job_id] = placed
        if report.last:
            jobs, self._jobs = self._jobs, {}
            self.stage = Stage.JOINED
            self._requests = HostRequests(self.host_id, self.say)
            self._sessions.reported(self, jobs, self._ended_before)
            self._ended_before = EndedBefore([], True)

    def _note_ended(self, ended: EndedBefore) -> None:
        if len(ended.job_ids) > messages.MAX_PAST:
            raise InvalidField("job_ids", f"must not be more than {messages.MAX_PAST}")
        self.came = self.heard
        self._ended_before = ended

    def _check_stage(self, stage: Stage) -> None:
        if self.stage is not stage:
            raise self._misplaced()

    def _misplaced(self) -> InvalidField:
        return InvalidField("type", f"must not come while the session is {self.stage.value}")

    def _over(self, reason: str) -> None:
        if self.stage is Stage.OVER:
            return
        self.stage = Stage.OVER
        self._jobs = {}
        self._sessions.over(self)
        if self._requests is not None:
            self._requests.lost(reason)
