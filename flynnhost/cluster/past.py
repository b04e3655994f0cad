"""Where jobs were that the leader does not keep any more: an ID never gets onto a second host."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from attrs import define, field
from msgspec import Struct

MAX_PAST_JOBS = 1_000_000
"""Of how many jobs the leader remembers where they were, at the most."""

REMEMBERED_FOR = 7200.0
"""Seconds for which it does, at the most."""

_DROPPED_AT_ONCE = 2

FOREIGN = "a foreign host"
"""The instance of all hosts that say nothing of their jobs: the leader compares the content for them."""


class Whereabouts(Struct, frozen=True, gc=False):
    """Where a job was. One value serves all the jobs of a host that keeps them itself.

    :param instance: what told the host from another that was given the same ID.
    :param content: the job's, by ``digest_of``; empty where the host is to compare it.
    """

    host_id: str
    instance: str
    content: bytes = b""


def digest_of(canonical: bytes) -> bytes:
    """What jobs of the same content have in common, short."""
    return hashlib.sha256(canonical).digest()[:16]


@define(eq=False)
class PastJobs:
    """Jobs by ID, for a time, up to a number.

    They are kept in two halves, of which the older is dropped when the newer one is full or old: a
    job is remembered for at least half the time, and of the latest jobs at least half the number.

    :param seconds: a clock that is never set.
    """

    _seconds: Callable[[], float]
    _limit: int = MAX_PAST_JOBS
    _remembered_for: float = REMEMBERED_FOR
    _newer: dict[str, Whereabouts] = field(init=False, factory=dict)
    _older: dict[str, Whereabouts] = field(init=False, factory=dict)
    # What is dropped is taken to pieces a little at a time, as it may be large.
    _dropped: dict[str, Whereabouts] = field(init=False, factory=dict)
    _turn_at: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turn_at = self._seconds() + self._remembered_for / 2

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def note(self, job_id: str, where: Whereabouts) -> None:
        """Remember a job from now on."""
        if len(self._newer) * 2 >= self._limit:
            self._turn(self._seconds())
        self._newer[job_id] = where
        if self._dropped:
            self._take_to_pieces()

    def find(self, job_id: str) -> Whereabouts | None:
        """Where a job was; None if that is not remembered."""
        return self._newer.get(job_id) or self._older.get(job_id)

    def grow_older(self) -> None:
        """Forget what is too old. To be called now and then."""
        while self._turn_at <= self._seconds():
            # When nothing is left to be forgotten, the time may be skipped.
            self._turn(self._turn_at if len(self) else self._seconds())

    def _take_to_pieces(self) -> None:
        for _ in range(min(len(self._dropped), _DROPPED_AT_ONCE)):
            self._dropped.popitem()

    def _turn(self, now: float) -> None:
        self._newer, self._older, self._dropped = {}, self._newer, self._older
        self._turn_at = now + self._remembered_for / 2
