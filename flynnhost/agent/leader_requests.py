"""What a leader asks of this host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from attrs import define, field, frozen

from flynnhost import messages
from flynnhost.canonical import parse_canonical
from flynnhost.errors import FlynnHostError, InvalidField, NotReady
from flynnhost.messages import Checked, FromHost, Submit
from flynnhost.model import Job

MAX_KEPT_BYTES = 64 * 1024 * 1024
"""Bytes of jobs that are kept until the leader says what is to become of them."""


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
class Requests:
    """A leader's requests in one session, from their first piece until they are taken or dropped.

    What can't be a request at all raises ``InvalidField``; what this host can't do, it says.

    :param foresee: raises what would keep the host from taking jobs.
    :param take: has jobs taken.
    :param say: sends a message to the leader.
    """

    _foresee: Callable[[Sequence[Job], int], None]
    _take: Callable[[Request], None]
    _say: Callable[[FromHost], None]
    _coming: list[msgspec.Raw] = field(init=False, factory=list)
    _coming_number: int = field(init=False, default=0)
    _kept: dict[int, Request] = field(init=False, factory=dict)

    def submitted(self, piece: Submit) -> None:
        """A piece of a request came; after the last one, do what is asked."""
        if self._coming and self._coming_number != piece.request:
            raise InvalidField("request", "begins before the last one has ended")
        self._coming_number = piece.request
        self._coming += piece.jobs
        if not piece.last:
            return
        raws, self._coming = self._coming, []
        try:
            request = _read(piece, raws)
            if not piece.check:
                self._take(request)
                return
            self._foresee(request.jobs, request.term)
            self._keep(request)
        except FlynnHostError as e:
            refusal = messages.refusal(piece.request, e)
            if refusal is None:
                raise
            self._say(refusal)

    def take(self, number: int) -> None:
        """Take jobs that were looked at."""
        request = self._kept.pop(number, None)
        if request is None:
            raise InvalidField("request", "was not checked")
        self._take(request)

    def drop(self, number: int) -> None:
        """Forget jobs that were looked at."""
        self._kept.pop(number, None)

    def clear(self) -> None:
        """Forget all that were not taken."""
        self._kept.clear()
        self._coming = []

    def _keep(self, request: Request) -> None:
        if sum(kept.size for kept in self._kept.values()) + request.size > MAX_KEPT_BYTES:
            raise NotReady("this host keeps too many jobs of which the leader has to decide")
        self._kept[request.number] = request
        self._say(Checked(request.number))


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
