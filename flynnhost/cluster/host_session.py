"""One host's session, as the leader has it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from itertools import count
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost import messages
from flynnhost.cluster.stored import Placed, placed_from
from flynnhost.errors import InvalidField, NotReady, TookTooLong
from flynnhost.interfaces import IPrepared, ISessionTransport, Part
from flynnhost.messages import (
    Accepted,
    Beat,
    Bye,
    Checked,
    Created,
    Drop,
    Ended,
    FromHost,
    Hello,
    Refused,
    Report,
    Submit,
    Take,
    Welcome,
)
from flynnhost.model import JobStatus

MAX_UNACKNOWLEDGED_BYTES = 64 * 1024 * 1024
"""Bytes of jobs that one host may have to acknowledge before it is given more."""

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

    def reported(self, session: HostSession, jobs: Mapping[str, Placed]) -> None:
        """The host has said which jobs it has, all of them."""

    def created(self, session: HostSession, job: Placed) -> None:
        """The host has a job."""

    def ended(self, session: HostSession, job_id: str) -> None:
        """A job of the host has ended."""

    def over(self, session: HostSession) -> None:
        """The session has ended."""


@define(eq=False)
class _Request:
    """Something the host was asked, and how many bytes of jobs with it.

    :param prepared: what the host has when it has checked them.
    """

    size: int
    accepted: Deferred[list[JobStatus]] | None = None
    checked: Deferred[IPrepared] | None = None
    prepared: IPrepared | None = None

    def fail(self, error: Exception) -> None:
        for waiter in (self.accepted, self.checked):
            if waiter is not None and not waiter.called:
                waiter.errback(error)


@define(eq=False)
class _Prepared:
    """A part that the host keeps until it is told what is to become of it."""

    _session: HostSession
    _request: int
    _part: Part
    _term: int

    def submit(self) -> Deferred[list[JobStatus]]:
        return self._session.take(self._request, self._part, self._term)

    def drop(self) -> None:
        self._session.say(Drop(self._request))


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
    _requests: dict[int, _Request] = field(init=False, factory=dict)
    _numbers: count[int] = field(init=False, factory=lambda: count(1))
    _unacknowledged_bytes: int = field(init=False, default=0)

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

    def welcome(self, term: int, beat: float) -> None:
        """Have the host report."""
        self.stage = Stage.REPORTING
        self.came = self._clock.seconds()
        self.say(Welcome(term, beat))

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
        error = self._cant_take(part)
        if error is not None:
            return fail(error)
        accepted: Deferred[list[JobStatus]] = Deferred()
        self._ask(next(self._numbers), part, term, _Request(part.size, accepted=accepted))
        return accepted

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        """See ``IHostLink``."""
        error = self._cant_take(part)
        if error is not None:
            return fail(error)
        checked: Deferred[IPrepared] = Deferred()
        number = next(self._numbers)
        prepared = _Prepared(self, number, part, term)
        self._ask(number, part, term, _Request(part.size, checked=checked, prepared=prepared))
        return checked

    def take(self, number: int, part: Part, term: int) -> Deferred[list[JobStatus]]:
        """Have the host take jobs that it has looked at."""
        if self.stage is not Stage.JOINED:
            return fail(NotReady(f"host {self.host_id} was lost"))
        accepted: Deferred[list[JobStatus]] = Deferred()
        self._requests[number] = _Request(part.size, accepted=accepted)
        self._unacknowledged_bytes += part.size
        self.say(Take(number, term))
        return accepted

    def _cant_take(self, part: Part) -> NotReady | None:
        if self.stage is not Stage.JOINED:
            return NotReady(f"host {self.host_id} is not connected")
        if self._unacknowledged_bytes and self._unacknowledged_bytes + part.size > MAX_UNACKNOWLEDGED_BYTES:
            return NotReady(f"host {self.host_id} has too much to acknowledge already")
        return None

    def _ask(self, number: int, part: Part, term: int, request: _Request) -> None:
        self._requests[number] = request
        self._unacknowledged_bytes += request.size
        chunks = list(messages.chunked(part.encoded))
        check = request.checked is not None
        for position, jobs in enumerate(chunks, 1):
            self.say(Submit(number, term, jobs, check, last=position == len(chunks)))

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
        else:
            self._check_stage(Stage.JOINED)
            self._happened(message)

    def _happened(self, message: Accepted | Checked | Refused | Created | Ended) -> None:
        if isinstance(message, Created):
            self._sessions.created(self, placed_from(self.host_id, bytes(message.job)))
        elif isinstance(message, Ended):
            self._sessions.ended(self, message.job_id)
        else:
            self._answered(message)

    def _report(self, report: Report) -> None:
        self.came = self.heard
        for job in report.jobs:
            placed = placed_from(self.host_id, bytes(job))
            self._jobs[placed.job_id] = placed
        if report.last:
            jobs, self._jobs = self._jobs, {}
            self.stage = Stage.JOINED
            self._sessions.reported(self, jobs)

    def _answered(self, answer: Accepted | Checked | Refused) -> None:
        request = self._requests.pop(answer.request, None)
        if request is None:
            raise InvalidField("request", "was not made, or answered before")
        self._unacknowledged_bytes -= request.size
        try:
            self._pass_on(request, answer)
        except (ValueError, InvalidField) as e:
            # Nothing is known of the jobs then, so it must not look like a refusal.
            request.fail(TookTooLong(f"host {self.host_id} has answered what can't be understood"))
            raise InvalidField("answer", f"can't be understood: {e}") from e

    def _pass_on(self, request: _Request, answer: Accepted | Checked | Refused) -> None:
        if isinstance(answer, Refused):
            request.fail(messages.refusal_error(answer))
        elif isinstance(answer, Accepted) and request.accepted is not None:
            request.accepted.callback([JobStatus(status) for status in answer.statuses])
        elif isinstance(answer, Checked) and request.checked is not None and request.prepared is not None:
            request.checked.callback(request.prepared)
        else:
            raise ValueError(f"{type(answer).__name__} is not what was asked for")

    def _check_stage(self, stage: Stage) -> None:
        if self.stage is not stage:
            raise InvalidField("type", f"must not come while the session is {self.stage.value}")

    def _over(self, reason: str) -> None:
        if self.stage is Stage.OVER:
            return
        self.stage = Stage.OVER
        requests, self._requests = self._requests, {}
        self._jobs = {}
        self._sessions.over(self)
        for request in requests.values():
            request.fail(TookTooLong(f"host {self.host_id} was lost: {reason}"))
