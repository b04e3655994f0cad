"""What the leader remembers of jobs that it does not keep any more."""

from __future__ import annotations

import random

import pytest
from twisted.internet.task import Clock

from flynnhost.cluster.past import PastJobs, Whereabouts, digest_of

H1, H2 = Whereabouts("h1", "i"), Whereabouts("h2", "i")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def past_jobs(clock: Clock, limit: int = 100, remembered_for: float = 60.0) -> PastJobs:
    return PastJobs(clock.seconds, limit, remembered_for)


def test_finds(clock: Clock) -> None:
    """It is known where a job was last, and nothing is known of one that was nowhere."""
    past = past_jobs(clock)
    past.note("a", H1)
    past.note("b", H1)
    past.note("b", H2)
    assert (past.find("a"), past.find("b"), past.find("c")) == (H1, H2, None)


def test_number_is_bounded(clock: Clock) -> None:
    """Of very many jobs the latest are remembered: half the limit at least, and never more than it."""
    past = past_jobs(clock)
    for number in range(1_000):
        past.note(f"j{number}", H1)
        assert len(past) <= 100
        assert all(past.find(f"j{latest}") for latest in range(max(0, number - 49), number + 1))
    assert past.find("j0") is None


def test_what_is_forgotten_is_freed(clock: Clock) -> None:
    """What is dropped does not stay for longer than it takes to remember as much anew."""
    past = past_jobs(clock)
    for number in range(1_000):
        past.note(f"j{number}", H1)
        assert len(past) + len(past._dropped) <= 100


def test_noted_again(clock: Clock) -> None:
    """A job that is noted again and again takes no more room, and is remembered from the last time."""
    past = past_jobs(clock)
    for _ in range(1_000):
        past.note("a", H1)
    assert len(past) == 1
    for number in range(49):
        past.note(f"j{number}", H1)
    assert past.find("a") == H1


def test_time_is_bounded(clock: Clock) -> None:
    """A job is remembered for half the time at least, and not for longer than all of it."""
    chance = random.Random(1)
    past = past_jobs(clock, limit=1_000_000)
    noted: list[tuple[str, float]] = []
    for number in range(600):
        clock.advance(chance.random())
        past.grow_older()
        past.note(f"j{number}", H1)
        noted.append((f"j{number}", clock.seconds()))
        for job_id, at in noted:
            age = clock.seconds() - at
            if age < 30:
                assert past.find(job_id) == H1, age
            if age > 60:
                assert past.find(job_id) is None, age


def test_nothing_happens_for_long(clock: Clock) -> None:
    """What is too old is forgotten too when nothing was noted since."""
    past = past_jobs(clock)
    past.note("a", H1)
    clock.advance(1_000_000)
    past.grow_older()
    assert len(past) == 0
    past.note("b", H1)
    clock.advance(29)
    past.grow_older()
    assert past.find("b") == H1


def test_digests() -> None:
    """The digest is the same for the same content alone, and short."""
    assert digest_of(b"one") == digest_of(b"one") != digest_of(b"other")
    assert len(digest_of(b"one")) == 16
