"""The journal of this host's jobs: writes are grouped and made by a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.agent.journal_file import Change, JournalFile, encode
from flynnhost.errors import JournalFailed
from flynnhost.interfaces import IJournal, JournalContents
from flynnhost.model import ActiveJob

MAX_WAITING = 10_000
"""Writes that may wait for the disk; more are refused."""

MAX_GROUP = 1_000
"""Writes that share one transaction at the most."""


class JournalReactor(IReactorTime, IReactorFromThreads):
    """What the journal needs of a reactor."""


_Write = tuple[Change, Deferred[None]]


@implementer(IJournal)
@define(eq=False)
class SqliteJournal:
    """An ``IJournal`` in an SQLite file.

    Whatever waits when the thread comes back from the disk is written in the next
    transaction together, so a hundred jobs accepted at once cost one sync or two.

    :param deadline: seconds that a write may take before it counts as failed.
    """

    _reactor: JournalReactor
    _path: Path
    _deadline: float = 60.0
    _file: JournalFile = field(init=False)
    _queue: queue.SimpleQueue[_Write | None] = field(init=False, factory=queue.SimpleQueue)
    _thread: threading.Thread | None = field(init=False, default=None)
    _closed: Deferred[None] | None = field(init=False, default=None)
    _waiting: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._file = JournalFile(self._path)

    def open(self) -> Deferred[JournalContents]:
        """See ``IJournal``."""
        opened: Deferred[JournalContents] = Deferred()
        self._thread = threading.Thread(
            target=self._thd_run, args=(opened,), name="flynn-host journal", daemon=True
        )
        self._thread.start()
        return opened

    def write(self, jobs: Sequence[ActiveJob], term: int = 0) -> Deferred[None]:
        """See ``IJournal``."""
        return self._put(Change(records=[encode(job) for job in jobs], term=term))

    def forget(self, job_ids: Sequence[str]) -> Deferred[None]:
        """See ``IJournal``."""
        return self._put(Change(drop=tuple(job_ids)))

    def close(self) -> Deferred[None]:
        """See ``IJournal``."""
        closed: Deferred[None] = Deferred()
        if self._closed is not None:
            self._closed.chainDeferred(closed)
        elif self._thread is None:
            closed.callback(None)
        else:
            self._closed = closed
            self._queue.put(None)
        return closed

    def _put(self, change: Change) -> Deferred[None]:
        if self._thread is None or self._closed is not None:
            return fail(JournalFailed("it is closed"))
        if self._waiting >= MAX_WAITING:
            return fail(JournalFailed(f"{self._waiting} writes wait for the disk already"))
        self._waiting += 1
        written: Deferred[None] = Deferred()
        self._queue.put((change, written))
        return self._with_deadline(written)

    def _with_deadline(self, written: Deferred[None]) -> Deferred[None]:
        """A Deferred of its own for the caller, so that the thread's may fire late."""
        answer: Deferred[None] = Deferred()

        def finished(result: Failure | None) -> None:
            self._waiting -= 1
            if not answer.called:
                timer.cancel()
                answer.callback(result)

        def late() -> None:
            answer.errback(JournalFailed(f"the disk did not answer within {self._deadline:g} s"))

        timer = self._reactor.callLater(self._deadline, late)
        written.addBoth(finished)
        return answer

    def _thd_run(self, opened: Deferred[JournalContents]) -> None:
        try:
            contents = self._file.open(datetime.now(UTC))
        except Exception:
            self._reactor.callFromThread(opened.errback, Failure())
            self._thd_refuse()
            return
        self._reactor.callFromThread(opened.callback, contents)
        while self._thd_write_group():
            pass
        self._file.close()
        self._reactor.callFromThread(self._thread_ended)

    def _thd_write_group(self) -> bool:
        """Write what waits, at least one thing. Says whether to go on."""
        group: list[_Write] = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            if len(group) >= MAX_GROUP or self._queue.empty():
                break
            item = self._queue.get()
        if group:
            self._thd_commit(group)
        return item is not None

    def _thd_commit(self, group: list[_Write]) -> None:
        result: Failure | None = None
        try:
            self._file.write(change for change, _ in group)
        except Exception:
            result = Failure()
        self._reactor.callFromThread(_answer, group, result)

    def _thd_refuse(self) -> None:
        """After a failed open: answer what is asked until the journal is closed."""
        while (item := self._queue.get()) is not None:
            self._reactor.callFromThread(_answer, [item], Failure(JournalFailed("it could not be opened")))
        self._reactor.callFromThread(self._thread_ended)

    def _thread_ended(self) -> None:
        if self._closed is not None:
            self._closed.callback(None)


def _answer(group: list[_Write], result: Failure | None) -> None:
    for _, written in group:
        written.callback(result)
