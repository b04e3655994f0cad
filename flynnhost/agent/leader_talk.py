"""One session with a leader, from the introduction to its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from flynnhost import messages
from flynnhost.agent.on_the_way import OnTheWay
from flynnhost.errors import FlynnHostError, InvalidField, NotReady
from flynnhost.interfaces import IAgent, ISessionTransport, ISubscription
from flynnhost.messages import (
    BEAT,
    BEATS_MISSED,
    Beat,
    Bye,
    Checked,
    Created,
    Drop,
    Ended,
    FromHost,
    Hello,
    Report,
    Submit,
    Take,
    Welcome,
)
from flynnhost.model import ActiveJob, EventKind, Job, JobEvent, canonical, parse_canonical

MAX_QUEUED = 20_000
MAX_QUEUED_BYTES = 32 * 1024 * 1024
"""How far the leader may be behind before the session is given up, and begun anew."""

MAX_KEPT_BYTES = 64 * 1024 * 1024
"""Bytes of jobs that are kept until the leader says what is to become of them."""

_BEAT = messages.encode(Beat())


@frozen
class Request:
    """Jobs that the leader wants taken.

    :param encoded: their canonical forms by ID.
    """

    number: int
    term: int
    jobs: Sequence[Job]
    encoded: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return sum(map(len, self.encoded.values()))


@define(eq=False)
class LeaderTalk:
    """An ``ISessionUser``.

    :param highest_term: the highest leader's term that this host has seen.
    :param foresee: raises what would keep the host from taking jobs.
    :param take: has jobs taken; the answer is to be given to ``say``.
    :param welcomed: called when the leader has let the host in, with the term.
    :param over: called once when the session has ended, with the reason and whether another one may
        succeed soon.
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
    _beat: float = field(init=False, default=BEAT)
    _heard: float = field(init=False)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _next_piece: IDelayedCall | None = field(init=False, default=None)
    _subscription: ISubscription | None = field(init=False, default=None)
    _report: Iterator[bytes] | None = field(init=False, default=None)
    _queue: deque[bytes] = field(init=False, factory=deque)
    _queued_bytes: int = field(init=False, default=0)
    _reported_early: set[str] = field(init=False, factory=set)
    _coming: list[msgspec.Raw] = field(init=False, factory=list)
    _coming_number: int = field(init=False, default=0)
    _kept: dict[int, Request] = field(init=False, factory=dict)
    _ended: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._heard = self._clock.seconds()

    def begin(self) -> None:
        """Introduce this host."""
        if self._ended:
            return
        self._transport.send(messages.encode(self._hello))
        self._timer = self._clock.callLater(self._beat, self._tick)

    def end(self, reason: str, retry: bool = True) -> None:
        """End the session."""
        if self._ended:
            return
        self._ended = True
        for timer in (self._timer, self._next_piece):
            if timer is not None and timer.active():
                timer.cancel()
        if self._subscription is not None:
            self._subscription.cancel()
        self._report = None
        self._queue.clear()
        self._kept.clear()
        self._coming = []
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
        self._pump()

    def lost(self, reason: str) -> None:
        """See ``ISessionUser``."""
        self.end(reason)

    def _happened(self, message: messages.FromLeader) -> None:
        if isinstance(message, Welcome):
            self._begin_report(message)
        elif isinstance(message, Submit):
            self._asked(message)
        elif isinstance(message, Take):
            request = self._kept.pop(message.request, None)
            if request is None:
                raise InvalidField("request", "was not checked")
            self._take(self, request)
        elif isinstance(message, Drop):
            self._kept.pop(message.request, None)
        elif isinstance(message, Bye):
            self.end(message.reason, message.retry)

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

    # --- the report -----------------------------------------------------------

    def _begin_report(self, welcome: Welcome) -> None:
        if self._subscription is not None:
            raise InvalidField("type", "must not be welcome twice")
        if welcome.term < self._highest_term():
            self.end(f"its term {welcome.term} is over: this host has seen term {self._highest_term()}")
            return
        self._beat = max(0.1, welcome.beat)
        if self._timer is not None:
            self._timer.reset(self._beat)
        try:
            # In one turn: what there is and what comes fit together.
            active = [job for job in self._agent.jobs().values() if not job.ended]
        except NotReady as e:
            self.end(str(e))
            return
        self._subscription = self._agent.events.subscribe(self._job_changed)
        there = {job.id for job in active}
        early = [(job_id, job) for job_id, job in self._on_the_way.items() if job_id not in there]
        self._reported_early = {job_id for job_id, _ in early}
        self._on_the_way.settled = self._settled
        self._report = self._pieces(active, [job for _, job in early])
        self._welcomed(welcome.term)
        self._pump()

    @staticmethod
    def _pieces(active: Sequence[ActiveJob], early: Sequence[bytes]) -> Iterator[bytes]:
        def encoded() -> Iterator[bytes]:
            for job in active:
                yield canonical(job.job)
            yield from early

        for chunk in messages.chunked(encoded()):
            yield messages.encode(Report(chunk, last=False))
        yield messages.encode(Report([], last=True))

    def _job_changed(self, event_id: str, event: JobEvent) -> None:
        if event.job.ended:
            self.say(Ended(event.job.id))
        elif event.kind is EventKind.CREATE and event.job.id not in self._on_the_way:
            # Of the others the leader knows, as it has sent them or they were reported.
            self.say(Created(msgspec.Raw(canonical(event.job.job))))

    def _settled(self, job_id: str) -> None:
        """A job that was reported before this host had it was taken, or was not."""
        if job_id not in self._reported_early or self._ended:
            return
        self._reported_early.discard(job_id)
        job = self._agent.jobs().get(job_id)
        if job is None or job.ended:
            self.say(Ended(job_id))

    # --- what this host says --------------------------------------------------

    def say(self, message: FromHost) -> None:
        """Send a message after all that waits, if the session goes on."""
        if self._ended:
            return
        data = messages.encode(message)
        self._queue.append(data)
        self._queued_bytes += len(data)
        self._pump()
        if len(self._queue) > MAX_QUEUED or self._queued_bytes > MAX_QUEUED_BYTES:
            self.end("the leader takes too little of what it is told")

    def _pump(self) -> None:
        """Write what waits, a piece of the report at a time."""
        if self._next_piece is not None or self._ended:
            return
        if self._report is not None:
            self._write_piece(self._report)
            return
        while self._queue and not self._transport.full:
            data = self._queue.popleft()
            self._queued_bytes -= len(data)
            self._transport.send(data)

    def _write_piece(self, report: Iterator[bytes]) -> None:
        if self._transport.full:
            return
        piece = next(report, None)
        if piece is None:
            self._report = None
        else:
            self._transport.send(piece)
        self._next_piece = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next_piece = None
        self._pump()

    # --- what the leader asks -------------------------------------------------

    def _asked(self, submit: Submit) -> None:
        if self._subscription is None:
            raise InvalidField("type", "must not come before the welcome")
        if self._coming and self._coming_number != submit.request:
            raise InvalidField("request", "begins before the last one has ended")
        self._coming_number = submit.request
        self._coming += submit.jobs
        if not submit.last:
            return
        raws, self._coming = self._coming, []
        try:
            request = _read(submit, raws)
            if not submit.check:
                self._take(self, request)
                return
            self._foresee(request.jobs, request.term)
            self._keep(request)
        except FlynnHostError as e:
            refusal = messages.refusal(submit.request, e)
            if refusal is None:
                raise
            self.say(refusal)

    def _keep(self, request: Request) -> None:
        if sum(kept.size for kept in self._kept.values()) + request.size > MAX_KEPT_BYTES:
            raise NotReady("this host keeps too many jobs of which the leader has to decide")
        self._kept[request.number] = request
        self.say(Checked(request.number))


def _read(submit: Submit, raws: Sequence[msgspec.Raw]) -> Request:
    jobs, encoded = [], {}
    for index, raw in enumerate(raws):
        data = bytes(raw)
        try:
            job = parse_canonical(data)
        except ValueError as e:
            raise InvalidField(f"[{index}]", f"can't be read by this host: {e}") from e
        jobs.append(job)
        encoded[job.id] = data
    return Request(submit.request, submit.term, jobs, encoded)
