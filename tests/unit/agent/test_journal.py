"""The journal's thread: grouping, deadlines, and a disk that hangs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from flynnhost.agent import journal as journal_module
from flynnhost.agent.journal import CLOSE_WITHIN, SqliteJournal
from flynnhost.agent.journal_file import Change, JournalFile
from flynnhost.errors import JournalFailed
from flynnhost.interfaces import JournalContents
from flynnhost.testing.journal_contract import active

DEADLINE = 10.0


class ThreadedClock(Clock):
    """A clock that does what threads ask for when a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: queue.Queue[Callable[[], object]] = queue.Queue()

    def callFromThread(self, call: Callable[..., object], *args: Any) -> None:
        self._asked.put(lambda: call(*args))

    def until(self, condition: Callable[[], object]) -> None:
        """Do what threads ask for until a condition holds."""
        while not condition():
            self._asked.get(timeout=20)()


@define(eq=False)
class HangingFile(JournalFile):
    """A file on a disk that can be made to hang; it remembers the sizes of transactions.

    :ivar hangs: set while a transaction hangs.
    :ivar goes_on: cleared to make the next transaction hang.
    """

    hangs: threading.Event = field(init=False, factory=threading.Event)
    goes_on: threading.Event = field(init=False, factory=threading.Event)
    sizes: list[int] = field(init=False, factory=list)
    close_error: Exception | None = None
    open_error: Exception | None = None

    def __attrs_post_init__(self) -> None:
        self.goes_on.set()

    def open(self, now: datetime) -> JournalContents:
        self._hang()
        if self.open_error is not None:
            raise self.open_error
        return super().open(now)

    def write(self, changes: Iterable[Change]) -> None:
        changes = list(changes)
        self._hang()
        self.sizes.append(len(changes))
        super().write(changes)

    def close(self) -> None:
        self._hang()
        super().close()
        if self.close_error is not None:
            raise self.close_error

    def _hang(self) -> None:
        if not self.goes_on.is_set():
            self.hangs.set()
            assert self.goes_on.wait(20)
            self.hangs.clear()


@define(eq=False)
class Rig:
    """A journal on a disk that can hang."""

    path: Path
    clock: ThreadedClock = field(init=False, factory=ThreadedClock)
    file: HangingFile = field(init=False)
    journal: SqliteJournal = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.file = HangingFile(self.path)
        clock: Any = self.clock
        self.journal = SqliteJournal(clock, self.path, DEADLINE, lambda _: self.file)

    def answer(self, asked: Deferred[Any]) -> Any:
        """What a Deferred fires with, for which threads may be needed."""
        got: list[Any] = []
        asked.addBoth(got.append)
        self.clock.until(lambda: got)
        if isinstance(got[0], Failure):
            got[0].raiseException()
        return got[0]

    def hang(self) -> Deferred[None]:
        """Have the disk hang in the middle of a write, which is returned."""
        self.file.goes_on.clear()
        begun = self.journal.write([active("begun")])
        assert self.file.hangs.wait(20)
        return begun

    def found(self) -> set[str]:
        """The jobs that are on disk in the end."""
        contents = JournalFile(self.path).open(datetime.now())
        return {job.id for job in contents.jobs}


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    rig = Rig(tmp_path / "journal.db")
    rig.answer(rig.journal.open())
    yield rig
    rig.file.goes_on.set()
    rig.answer(rig.journal.close())
    assert [call.getTime() for call in rig.clock.getDelayedCalls()] == []


def failure_of(asked: Deferred[Any]) -> list[str]:
    """The words with which a Deferred has failed as a journal does, if it has."""
    reasons: list[str] = []

    def failed(failure: Failure) -> None:
        failure.trap(JournalFailed)
        reasons.append(failure.value.reason)  # type: ignore[union-attr]

    asked.addErrback(failed)
    return reasons


def test_grouped(rig: Rig) -> None:
    """What comes while the disk is busy is written together when it is done."""
    begun = rig.hang()
    writes = [rig.journal.write([active(f"j{n}")]) for n in range(100)]
    rig.file.goes_on.set()
    for written in [begun, *writes]:
        rig.answer(written)
    assert rig.file.sizes == [1, 100]


def test_group_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group has a greatest size, and the rest has its turn after it."""
    monkeypatch.setattr(journal_module, "MAX_GROUP", 40)
    rig.hang()
    writes = [rig.journal.write([active(f"j{n}")]) for n in range(100)]
    rig.file.goes_on.set()
    for written in writes:
        rig.answer(written)
    assert rig.file.sizes == [1, 40, 40, 20]


def test_group_that_fails(rig: Rig) -> None:
    """If a group can't be written each of its writes fails, with an error of its own."""
    writes = [rig.hang(), *(rig.journal.write([active(f"j{n}")]) for n in range(3))]
    rig.path.rename(f"{rig.path}.away")
    rig.file.goes_on.set()
    errors = []
    for written in writes:
        with pytest.raises(JournalFailed, match="gone") as caught:
            rig.answer(written)
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 4
    rig.path.with_name("journal.db.away").rename(rig.path)
    rig.answer(rig.journal.write([active("after")]))
    assert "j0" not in rig.found()


def test_deadline_of_what_waits(rig: Rig) -> None:
    """What did not get its turn in time fails, and is never written."""
    rig.hang()
    reasons = failure_of(rig.journal.write([active("late")], 9))
    forgetting = failure_of(rig.journal.forget(["begun"]))
    rig.clock.advance(DEADLINE - 0.1)
    assert reasons == []
    in_time = rig.journal.write([active("in time")])
    rig.clock.advance(0.1)
    assert "10 s" in reasons[0]
    assert forgetting == reasons
    rig.file.goes_on.set()
    rig.answer(in_time)
    assert rig.found() == {"begun", "in time"}
    assert rig.file._term == 0


def test_no_deadline_of_what_is_begun(rig: Rig) -> None:
    """What the disk has begun to write is not given up: it would be there after a restart."""
    begun = rig.hang()
    rig.clock.advance(DEADLINE * 3)
    assert not begun.called
    rig.file.goes_on.set()
    assert rig.answer(begun) is None
    assert rig.found() == {"begun"}


def test_hang_is_told_once(rig: Rig) -> None:
    """However many writes a disk hangs on, that is logged once, and again when it hangs again."""
    with capturedLogs() as logged:
        for _ in range(2):
            rig.file.goes_on.clear()
            group = [rig.journal.write([active(f"j{n}")]) for n in range(20)]
            assert rig.file.hangs.wait(20)
            rig.clock.advance(DEADLINE)
            rig.file.goes_on.set()
            for written in group:
                written.addErrback(lambda failure: failure.trap(JournalFailed))
                rig.answer(written)
    errors = [event for event in logged if event["log_level"] is LogLevel.error]
    assert len(errors) == 2


def test_too_many(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many may wait; those that were withdrawn count until the disk is back."""
    monkeypatch.setattr(journal_module, "MAX_WAITING", 3)
    begun = rig.hang()
    waiting = [failure_of(rig.journal.write([active(f"j{n}")])) for n in range(3)]
    assert waiting[:2] == [[], []]
    assert "3 writes" in waiting[2][0]
    rig.clock.advance(DEADLINE)
    assert all(waiting)
    assert failure_of(rig.journal.write([active("j9")]))
    rig.file.goes_on.set()
    rig.answer(begun)
    rig.answer(rig.journal.write([active("after")]))
    assert rig.found() == {"begun", "after"}


def test_cancelled(rig: Rig) -> None:
    """One who waits no more is not answered later; the write is made."""
    rig.hang()
    given_up = rig.journal.write([active("given up")])
    results: list[Any] = []
    given_up.addErrback(results.append)
    given_up.cancel()
    rig.file.goes_on.set()
    rig.answer(rig.journal.write([active("next")]))
    (failure,) = results
    assert failure.check(CancelledError)
    assert "given up" in rig.found()


def test_close_while_the_disk_hangs(rig: Rig) -> None:
    """Closing ends in seconds, whatever the disk does; what had no turn yet is never written."""
    begun = rig.hang()
    waiting = failure_of(rig.journal.write([active("waiting")]))
    closed = rig.journal.close()
    again = rig.journal.close()
    rig.clock.advance(CLOSE_WITHIN - 0.1)
    assert not closed.called
    rig.clock.advance(0.1)
    assert closed.called
    assert again.called
    assert waiting == ["it is closed"]
    assert not begun.called
    assert rig.clock.getDelayedCalls() == []
    assert rig.journal.close().called
    rig.file.goes_on.set()
    rig.answer(begun)
    rig.journal._thread.join(20)
    assert rig.found() == {"begun"}


def test_close_that_hangs_or_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that comes to grief in the end still lets the journal be closed."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    rig = Rig(tmp_path / "journal.db")
    rig.answer(rig.journal.open())
    rig.file.close_error = OSError("no more")
    rig.answer(rig.journal.close())
    assert rig.clock.getDelayedCalls() == []


def test_open_hangs(tmp_path: Path) -> None:
    """A journal that is never read can be closed; when the disk comes back nothing is left."""
    rig = Rig(tmp_path / "journal.db")
    rig.file.goes_on.clear()
    opened = rig.journal.open()
    assert rig.file.hangs.wait(20)
    waiting = failure_of(rig.journal.write([active("early")]))
    rig.clock.advance(DEADLINE)
    assert waiting
    assert not opened.called
    closed = rig.journal.close()
    rig.clock.advance(CLOSE_WITHIN)
    assert closed.called
    rig.file.goes_on.set()
    rig.answer(opened)
    rig.journal._thread.join(20)  # type: ignore[union-attr]
    assert rig.file._db is None


def test_open_given_up(tmp_path: Path) -> None:
    """One who waits no more for the journal to be read does not break it."""
    rig = Rig(tmp_path / "journal.db")
    opened = rig.journal.open()
    opened.addErrback(lambda _: None)
    opened.cancel()
    rig.answer(rig.journal.write([active("j1")]))
    rig.answer(rig.journal.close())


def test_open_fails_as_nobody_thought(tmp_path: Path) -> None:
    """Whatever goes wrong while the journal is opened, it has failed as a journal does."""
    rig = Rig(tmp_path / "journal.db")
    rig.file.open_error = ZeroDivisionError("division by zero")
    with pytest.raises(JournalFailed, match="division by zero"):
        rig.answer(rig.journal.open())
    with pytest.raises(JournalFailed):
        rig.answer(rig.journal.write([active("j1")]))
    rig.answer(rig.journal.close())


def test_thread_is_a_daemon(rig: Rig) -> None:
    """A disk that hangs for good does not hold up the end of the process."""
    assert rig.journal._thread is not None
    assert rig.journal._thread.daemon
