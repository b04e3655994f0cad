"""The journal in memory keeps the contract of journals, and does what tests tell it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from flynnhost.errors import JournalFailed
from flynnhost.testing.journal import MemoryJournal
from flynnhost.testing.journal_contract import JournalContract, JournalRig, active


class MemoryRig(JournalRig):
    def __init__(self, delay: float) -> None:
        self.clock = Clock()
        self.present = MemoryJournal(self.clock, delay)

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        ended: list[Failure | None] = []
        Deferred.fromCoroutine(test).addBoth(ended.append)
        for _ in range(1000):
            if ended:
                break
            self.clock.advance(0.01)
        (result,) = ended
        if result is not None:
            result.raiseException()

    def journal(self) -> MemoryJournal:
        self.present = self.present.crash()
        return self.present

    def damage(self, job_id: str) -> None:
        self.present.damage([job_id])

    def fill(self) -> None:
        self.present.trouble = "database or disk is full"

    def free(self) -> None:
        self.present.trouble = ""

    def make_unusable(self) -> None:
        self.present.open_trouble = "unable to open database file"


class TestMemoryJournal(JournalContract):
    @pytest.fixture(params=[0.0, 0.015])
    def rig(self, request: pytest.FixtureRequest) -> MemoryRig:
        return MemoryRig(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> MemoryJournal:
    journal = MemoryJournal(clock)
    journal.open()
    return journal


def test_held(journal: MemoryJournal) -> None:
    """Writes that are held back are neither on disk nor acknowledged until they are released."""
    journal.hold()
    written = [journal.write([active("j1")]), journal.write([active("j2")], 3)]
    assert not any(each.called for each in written)
    assert (dict(journal.jobs), journal.term, journal.waiting, journal.writes) == ({}, 0, 2, 0)
    journal.release()
    assert all(each.called for each in written)
    assert (set(journal.jobs), journal.term, journal.waiting, journal.writes) == ({"j1", "j2"}, 3, 0, 2)


def test_crash(journal: MemoryJournal) -> None:
    """After a crash there is what was on disk; the rest was lost, and nobody is answered any more."""
    journal.write([active("j1")], 2)
    journal.hold()
    lost = journal.write([active("j1", "new"), active("j2")], 5)
    after = journal.crash()
    journal.release()
    assert not lost.called
    assert not journal.write([active("j3")]).called
    assert not journal.close().called
    assert not journal.open().called
    assert (dict(after.jobs), after.term) == ({"j1": active("j1")}, 2)
    after.open()
    after.write([active("j4")])
    assert set(journal.jobs) == {"j1"}


def test_crash_before_the_acknowledgement(journal: MemoryJournal) -> None:
    """Some of what was never acknowledged may have reached the disk, in order."""
    journal.hold()
    for number in range(3):
        journal.write([active(f"j{number}")])
    after = journal.crash(written=2)
    assert set(after.jobs) == {"j0", "j1"}


def test_slow(clock: Clock, journal: MemoryJournal) -> None:
    """A slow disk keeps the order, also when it becomes quick; a crash takes what it had not done."""
    journal.delay = 5
    slow = journal.write([active("j1", "slow")])
    journal.delay = 0
    quick = journal.write([active("j1", "quick")])
    clock.advance(4.5)
    assert not slow.called
    assert not quick.called
    clock.advance(0.5)
    assert slow.called
    assert quick.called
    assert journal.jobs["j1"] == active("j1", "quick")
    journal.delay = 1
    journal.write([active("j2")])
    assert set(journal.crash().jobs) == {"j1"}
    assert clock.getDelayedCalls() == []


def test_trouble(journal: MemoryJournal) -> None:
    """A failing disk keeps what it had; what was held back meets the trouble of its turn."""
    journal.hold()
    written = journal.write([active("j1")])
    journal.trouble = "disk I/O error"
    journal.release()
    assert written.called
    failures: list[Failure] = []
    written.addErrback(failures.append)
    assert failures[0].check(JournalFailed)
    assert dict(journal.jobs) == {}
