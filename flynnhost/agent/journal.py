"""The journal of this host's jobs: writes are grouped and made by a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.agent.journal_file import Change, JournalFile, encode, encode_attribute
from flynnhost.agent.journal_rescue import open_journal
from flynnhost.errors import JournalFailed
from flynnhost.gate import Gate
from flynnhost.interfaces import IJournal, JournalContents
from flynnhost.model import ActiveJob

MAX_WAITING = 10_000
"""Writes that may wait for the disk; more are refused."""

MAX_GROUP = 1_000
"""Writes that share one transaction at the most."""

CLOSE_WITHIN = 3.0
"""Seconds that closing may take, whatever the disk does."""


class JournalReactor(IReactorTime, IReactorFromThreads):
    """What the journal needs of a reactor."""


@define(eq=False)
class _Write:
    """A change on its way to the disk.

    :ivar answer: what the caller waits for.
    """

    change: Change
    answer: Deferred[None] = field(init=False, factory=Deferred)
    timer: IDelayedCall | None = field(init=False, default=None)
    _taken: threading.Lock = field(init=False, factory=threading.Lock)

    def take(self) -> bool:
        """Whether the caller is the first: the thread to write it, or a deadline to withdraw it."""
        return self._taken.acquire(blocking=False)

    def over(self, error: JournalFailed | None) -> None:
        """Tell the caller, unless it waits no more."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if self.answer.called:
            return
        if error is None:
            self.answer.callback(None)
        else:
            self.answer.errback(Failure(JournalFailed(error.reason)))


@implementer(IJournal)
@define(eq=False)
class SqliteJournal:
    """An ``IJournal`` in an SQLite file.

    Whatever waits when the thread comes back from the disk is written in the next
    transaction together, so a hundred jobs accepted at once cost one sync or two.

    A write fails only when it is certain that it is not on disk and never will be: a host
    that takes a job for refused which its disk has would run it after a restart, when it may
    have been run elsewhere. So the deadline withdraws what waits; what the disk
    has begun to write is waited for as long as it takes, and those who can't wait give up alone.

    :param deadline: seconds that a write may wait for its turn.
    :param make_file: makes the file, not opened.
    """

    log = Logger()

    _reactor: JournalReactor
    _path: Path
    _deadline: float = 60.0
    _make_file: Callable[[Path], JournalFile] = JournalFile
    _file: JournalFile = field(init=False)
    _queue: queue.SimpleQueue[_Write | None] = field(init=False, factory=queue.SimpleQueue)
    _thread: threading.Thread | None = field(init=False, default=None)
    _pending: dict[_Write, None] = field(init=False, factory=dict)
    _closing: IDelayedCall | None = field(init=False, default=None)
    _ended: Gate = field(init=False, factory=Gate)
    _told_of_hang: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._file = self._make_file(self._path)

    def open(self) -> Deferred[JournalContents]:
        """See ``IJournal``. Has no deadline: checking a large file takes its time."""
        if self._thread is not None:
            return fail(JournalFailed("it was opened before"))
        opened: Deferred[JournalContents] = Deferred()
        slow = self._reactor.callLater(
            self._deadline,
            self.log.warn,
            "The journal {path} has not been read within {seconds} s",
            path=str(self._path),
            seconds=self._deadline,
        )
        self._thread = threading.Thread(
            target=self._thd_run, args=(opened, slow), name="flynn-host journal", daemon=True
        )
        self._thread.start()
        return opened

    def write(self, jobs: Sequence[ActiveJob], term: int = 0) -> Deferred[None]:
        """See ``IJournal``."""
        try:
            records = [encode(job) for job in jobs]
        except ValueError as e:
            return fail(JournalFailed(f"a job can't be put into words: {e}"))
        return self._put(Change(records=records, term=term))

    def forget(self, job_ids: Sequence[str]) -> Deferred[None]:
        """See ``IJournal``."""
        return self._put(Change(drop=tuple(job_ids)))

    def keep_draining(self, draining: bool) -> Deferred[None]:
        """See ``IJournal``."""
        return self._put(Change(draining=draining))

    def keep_attribute(self, name: str, value: str | None) -> Deferred[None]:
        """See ``IJournal``."""
        return self._put(Change(attributes=[encode_attribute(name, value)]))

    def forget_attribute(self, name: str) -> Deferred[None]:
        """See ``IJournal``."""
        return self._put(Change(attributes=[(name, None)]))

    def close(self) -> Deferred[None]:
        """See ``IJournal``. Fires within seconds, even if the disk hangs."""
        if self._thread is None:
            return succeed(None)
        if self._closing is None and not self._ended.is_open:
            self._closing = self._reactor.callLater(CLOSE_WITHIN, self._give_up)
            self._queue.put(None)
        return self._ended.wait()

    def _put(self, change: Change) -> Deferred[None]:
        if self._thread is None or self._closing is not None or self._ended.is_open:
            return fail(JournalFailed("it is closed"))
        if len(self._pending) >= MAX_WAITING:
            return fail(JournalFailed(f"{len(self._pending)} writes wait for the disk already"))
        write = _Write(change)
        write.timer = self._reactor.callLater(self._deadline, self._late, write)
        self._pending[write] = None
        self._queue.put(write)
        return write.answer

    def _late(self, write: _Write) -> None:
        withdrawn = self._withdraw(write, f"the disk did not answer within {self._deadline:g} s")
        if not withdrawn and not self._told_of_hang:
            self._told_of_hang = True
            self.log.error(
                "The disk has been writing {path} for up to {seconds} s, and {count} writes wait for it",
                path=str(self._path),
                seconds=self._deadline,
                count=len(self._pending),
            )

    def _withdraw(self, write: _Write, reason: str) -> bool:
        """Have a write not made, if that is still possible. It counts until the thread passes it."""
        if not write.take():
            return False
        write.change = Change()
        write.over(JournalFailed(reason))
        return True

    def _give_up(self) -> None:
        self.log.error(
            "The journal {path} could not be closed within {seconds} s: {count} writes are unfinished",
            path=str(self._path),
            seconds=CLOSE_WITHIN,
            count=len(self._pending),
        )
        for write in list(self._pending):
            self._withdraw(write, "it is closed")
            if write.timer is not None and write.timer.active():
                write.timer.cancel()
        self._tell_closed()

    def _tell_closed(self) -> None:
        self._ended.open()

    # --- answers of the thread ------------------------------------------------

    def _opened(
        self, opened: Deferred[JournalContents], slow: IDelayedCall, result: JournalContents | Failure
    ) -> None:
        if slow.active():
            slow.cancel()
        if not opened.called:
            opened.callback(result)

    def _written(self, passed: Sequence[_Write], made: Sequence[_Write], error: JournalFailed | None) -> None:
        self._told_of_hang = False
        for write in passed:
            self._pending.pop(write, None)
        for write in made:
            write.over(error)

    def _thread_ended(self) -> None:
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        for write in list(self._pending):  # none, unless the thread came to grief
            self._withdraw(write, "it is closed")
        self._tell_closed()

    # --- the thread -----------------------------------------------------------

    def _thd_run(self, opened: Deferred[JournalContents], slow: IDelayedCall) -> None:
        refusal: JournalFailed | None = None
        result: JournalContents | Failure
        try:
            result = open_journal(self._file, datetime.now(UTC))
        except JournalFailed as e:
            refusal, result = JournalFailed("it could not be opened"), Failure(e)
        except Exception as e:
            refusal = JournalFailed(f"{self._path}: {e}")
            result = Failure(refusal)
        self._reactor.callFromThread(self._opened, opened, slow, result)
        try:
            while self._thd_write_group(refusal):
                pass
            self._file.close()
        finally:
            self._reactor.callFromThread(self._thread_ended)

    def _thd_write_group(self, refusal: JournalFailed | None) -> bool:
        """Write what waits, at least one thing. Says whether to go on."""
        passed: list[_Write] = []
        item = self._queue.get()
        while item is not None:
            passed.append(item)
            if len(passed) >= MAX_GROUP or self._queue.empty():
                break
            item = self._queue.get()
        made = [write for write in passed if write.take()]
        error = refusal or (self._thd_commit(made) if made else None)
        self._reactor.callFromThread(self._written, passed, made, error)
        return item is not None

    def _thd_commit(self, made: Sequence[_Write]) -> JournalFailed | None:
        try:
            self._file.write(write.change for write in made)
        except JournalFailed as e:
            return e
        return None
