"""What a host was asked in one session, and has not answered yet."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from attrs import define, field
from twisted.internet.defer import Deferred, fail

from flynnhost import messages
from flynnhost.errors import InvalidField, NotReady, TookTooLong
from flynnhost.interfaces import IPrepared, Part
from flynnhost.messages import Accepted, Checked, Drop, FromLeader, Refused, SetDraining, Submit, Take
from flynnhost.model import JobStatus

MAX_UNACKNOWLEDGED_BYTES = 64 * 1024 * 1024
"""Bytes of jobs that one host may have to acknowledge before it is given more."""

_STATUSES = {status.value: status for status in JobStatus}


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

    _requests: HostRequests
    _number: int
    _part: Part
    _term: int

    def submit(self) -> Deferred[list[JobStatus]]:
        return self._requests.take(self._number, self._part, self._term)

    def drop(self) -> None:
        self._requests.drop(self._number)


@define(eq=False)
class HostRequests:
    """Requests by their numbers, and who waits for what comes of them. An ``IHostLink``.

    :param say: sends a message to the host.
    """

    _host_id: str
    _say: Callable[[FromLeader], None]
    _open: dict[int, _Request] = field(init=False, factory=dict)
    _numbers: count[int] = field(init=False, factory=lambda: count(1))
    _unacknowledged_bytes: int = field(init=False, default=0)
    _lost: bool = field(init=False, default=False)

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
        if self._lost:
            return fail(NotReady(f"host {self._host_id} was lost"))
        accepted: Deferred[list[JobStatus]] = Deferred()
        self._open[number] = _Request(part.size, accepted=accepted)
        self._unacknowledged_bytes += part.size
        self._say(Take(number, term))
        return accepted

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        """See ``IHostLink``."""
        if self._lost:
            return fail(NotReady(f"host {self._host_id} was lost"))
        accepted: Deferred[list[JobStatus]] = Deferred()
        number = next(self._numbers)
        self._open[number] = _Request(0, accepted=accepted)
        self._say(SetDraining(number, term, draining))
        return accepted.addCallback(lambda _: None)

    def drop(self, number: int) -> None:
        """Have the host forget jobs that it has looked at."""
        self._say(Drop(number))

    def answered(self, answer: Accepted | Checked | Refused) -> None:
        """The host has answered.

        :raises InvalidField: when that makes no sense.
        """
        request = self._open.pop(answer.request, None)
        if request is None:
            raise InvalidField("request", "was not made, or answered before")
        self._unacknowledged_bytes -= request.size
        try:
            _pass_on(request, answer)
        except (LookupError, ValueError, InvalidField) as e:
            # Nothing is known of the jobs then, so it must not look like a refusal.
            request.fail(TookTooLong(f"host {self._host_id} has answered what can't be understood"))
            raise InvalidField("answer", f"can't be understood: {e}") from e

    def lost(self, reason: str) -> None:
        """The host will not answer any more. What became of the jobs is not known."""
        self._lost = True
        requests, self._open = self._open, {}
        for request in requests.values():
            request.fail(TookTooLong(f"host {self._host_id} was lost: {reason}"))

    def _cant_take(self, part: Part) -> NotReady | None:
        if self._lost:
            return NotReady(f"host {self._host_id} is not connected")
        if self._unacknowledged_bytes and self._unacknowledged_bytes + part.size > MAX_UNACKNOWLEDGED_BYTES:
            return NotReady(f"host {self._host_id} has too much to acknowledge already")
        return None

    def _ask(self, number: int, part: Part, term: int, request: _Request) -> None:
        self._open[number] = request
        self._unacknowledged_bytes += request.size
        chunks = list(messages.chunked(part.jobs.encoded()))
        check = request.checked is not None
        for position, jobs in enumerate(chunks, 1):
            self._say(Submit(number, term, jobs, check, last=position == len(chunks)))


def _pass_on(request: _Request, answer: Accepted | Checked | Refused) -> None:
    if isinstance(answer, Refused):
        request.fail(messages.refusal_error(answer))
    elif isinstance(answer, Accepted) and request.accepted is not None:
        request.accepted.callback([_STATUSES[status] for status in answer.statuses])
    elif isinstance(answer, Checked) and request.checked is not None and request.prepared is not None:
        request.checked.callback(request.prepared)
    else:
        raise ValueError(f"{type(answer).__name__} is not what was asked for")
