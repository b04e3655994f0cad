"""A journal in memory, on a clock that a test turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.agent.journal_file import Change, Unreadable, decode, encode, encode_attribute
from flynnhost.errors import JournalFailed
from flynnhost.interfaces import IJournal, JournalContents
from flynnhost.model import ActiveJob


@frozen(eq=False)
class _Waiting:
    """A write that the disk has not taken yet."""

    change: Change
    due: float
    written: Deferred[None] = field(factory=Deferred)


@define(eq=False)
class _Disk:
    """What outlives the process."""

    records: dict[str, bytes] = field(factory=dict)
    term: int = 0
    draining: bool = False
    attributes: dict[str, bytes] = field(factory=dict)

    def apply(self, change: Change) -> None:
        self.records.update(change.records)
        for job_id in change.drop:
            self.records.pop(job_id, None)
        self.term = max(self.term, change.term)
        if change.draining is not None:
            self.draining = change.draining
        for name, body in change.attributes:
            self.attributes.pop(name, None)
            if body is not None:
                self.attributes[name] = body


@implementer(IJournal)
@define(eq=False)
class MemoryJournal:
    """An ``IJournal`` in memory.

    A write is on disk, and its Deferred has fired, before the call returns, unless ``delay``
    or ``hold`` says otherwise. Writes never overtake each other. Nothing happens by chance.

    :ivar delay: seconds that a write takes from now on.
    :ivar trouble: why writes fail from now on, when their turn comes; empty when they succeed.
    :ivar open_trouble: why the journal can't be opened; empty when it can.
    :ivar writes: how many writes the disk has taken.
    """

    _clock: IReactorTime
    delay: float = 0.0
    trouble: str = ""
    open_trouble: str = ""
    writes: int = field(init=False, default=0)
    _disk: _Disk = field(init=False, factory=_Disk)
    _waiting: deque[_Waiting] = field(init=False, factory=deque)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _held: bool = field(init=False, default=False)
    _opened: bool = field(init=False, default=False)
    _closed: list[Deferred[None]] | None = field(init=False, default=None)
    _crashed: bool = field(init=False, default=False)

    # --- what the system under test calls -------------------------------------

    def open(self) -> Deferred[JournalContents]:
        """See ``IJournal.open``."""
        if self._crashed:
            return Deferred()
        if self._opened:
            return fail(JournalFailed("it was opened before"))
        self._opened = True
        if self.open_trouble:
            return fail(JournalFailed(self.open_trouble))
        contents = self._read()
        self._disk.records = dict(encode(job) for job in contents.jobs)  # the others are set aside
        return succeed(contents)

    def write(self, jobs: Sequence[ActiveJob], term: int = 0) -> Deferred[None]:
        """See ``IJournal.write``."""
        try:
            return self._put(Change(records=[encode(job) for job in jobs], term=term))
        except ValueError as e:
            return fail(JournalFailed(f"a job can't be put into words: {e}"))

    def forget(self, job_ids: Sequence[str]) -> Deferred[None]:
        """See ``IJournal.forget``."""
        return self._put(Change(drop=tuple(job_ids)))

    def keep_draining(self, draining: bool) -> Deferred[None]:
        """See ``IJournal.keep_draining``."""
        return self._put(Change(draining=draining))

    def keep_attribute(self, name: str, value: str | None) -> Deferred[None]:
        """See ``IJournal.keep_attribute``."""
        return self._put(Change(attributes=[encode_attribute(name, value)]))

    def forget_attribute(self, name: str) -> Deferred[None]:
        """See ``IJournal.forget_attribute``."""
        return self._put(Change(attributes=[(name, None)]))

    def close(self) -> Deferred[None]:
        """See ``IJournal.close``; what is held back is waited for."""
        closed: Deferred[None] = Deferred()
        if self._crashed:
            return closed
        if self._closed is None:
            self._closed = []
        self._closed.append(closed)
        self._work()
        return closed

    # --- what tests call ------------------------------------------------------

    @property
    def jobs(self) -> Mapping[str, ActiveJob]:
        """The jobs on disk, as far as they can be read."""
        return {job.id: job for job in self._read().jobs}

    @property
    def term(self) -> int:
        """The highest term on disk."""
        return self._disk.term

    @property
    def waiting(self) -> int:
        """How many writes the disk has not taken yet."""
        return len(self._waiting)

    def hold(self) -> None:
        """Let no write reach the disk until ``release``."""
        self._held = True

    def release(self) -> None:
        """End ``hold``: what is due is written at once, in order."""
        self._held = False
        self._work()

    def damage(self, job_ids: Iterable[str]) -> None:
        """Make the records of these jobs unreadable."""
        for job_id in job_ids:
            self._disk.records[job_id] = b"\x00" + self._disk.records[job_id]

    def crash(self, written: int = 0) -> MemoryJournal:
        """End the process that uses this journal. The next one is returned, not opened yet.

        Nothing is answered here any more.

        :param written: how many of the writes that wait have reached the disk all the same,
            though nobody was told.
        """
        for waiting in list(self._waiting)[:written]:
            self._disk.apply(waiting.change)
        self._crashed = True
        self._waiting.clear()
        self._stop_timer()
        after = MemoryJournal(self._clock, self.delay, self.trouble, self.open_trouble)
        after._disk = evolve(
            self._disk, records=dict(self._disk.records), attributes=dict(self._disk.attributes)
        )
        return after

    # --- the disk -------------------------------------------------------------

    def _read(self) -> JournalContents:
        jobs, bad = [], []
        for record in self._disk.records.items():
            try:
                jobs.append(decode(record))
            except Unreadable as e:
                bad.append(f"the record of job {record[0]} ({e})")
        attributes = dict(
            msgspec.json.decode(body, type=tuple[str, str | None]) for body in self._disk.attributes.values()
        )
        return JournalContents(tuple(jobs), self._disk.term, self._disk.draining, tuple(bad), attributes)

    def _put(self, change: Change) -> Deferred[None]:
        if self._crashed:
            return Deferred()
        if not self._opened or self._closed is not None:
            return fail(JournalFailed("it is closed"))
        if self.open_trouble:
            return fail(JournalFailed("it could not be opened"))
        waiting = _Waiting(change, self._clock.seconds() + self.delay)
        self._waiting.append(waiting)
        self._work()
        return waiting.written

    def _work(self) -> None:
        """Write what is due, and come back for the rest."""
        self._stop_timer()
        while self._waiting and not self._held and self._waiting[0].due <= self._clock.seconds():
            self._take(self._waiting.popleft())
        self._stop_timer()  # what was called back may have come here before us
        if self._waiting and not self._held:
            self._timer = self._clock.callLater(self._waiting[0].due - self._clock.seconds(), self._due)
        if not self._waiting and self._closed:
            closed, self._closed = self._closed, []
            for waiter in closed:
                waiter.callback(None)

    def _due(self) -> None:
        self._timer = None
        self._work()

    def _take(self, waiting: _Waiting) -> None:
        result: Failure | None = None
        if self.trouble:
            result = Failure(JournalFailed(self.trouble))
        else:
            self._disk.apply(waiting.change)
            self.writes += 1
        if not waiting.written.called:  # cancelled, it is written all the same
            waiting.written.callback(result)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
