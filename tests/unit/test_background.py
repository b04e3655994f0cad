"""Work that goes on while nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from flynnhost.background import STEP, Background, Backoff, Periodic, Steps, shielded
from flynnhost.errors import NotReady
from tests.conftest import LoggedFailures


def results(deferred: Deferred[Any]) -> list[Any]:
    """What a Deferred fires with, as soon as it does; failures by their exception."""
    found: list[Any] = []
    deferred.addBoth(lambda result: found.append(result.value if isinstance(result, Failure) else result))
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def background() -> Background:
    return Background("a test")


# --- Background ---------------------------------------------------------------


def test_run(background: Background) -> None:
    """Work begins at once, and its end is told, without its result."""
    waiting: Deferred[int] = Deferred()
    began = []

    async def work() -> int:
        began.append(True)
        return await waiting

    over = results(background.run(work(), "working"))
    assert began
    assert over == []
    waiting.callback(5)
    assert over == [None]


def test_run_that_fails(background: Background, logged_failures: LoggedFailures) -> None:
    """Work that fails is logged, and its end is told as any other's."""

    async def work() -> None:
        raise ZeroDivisionError

    assert results(background.run(work(), "dividing")) == [None]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_cancel(background: Background) -> None:
    """To cancel is to end all that runs, and to wait until it has ended."""
    cleaning: Deferred[None] = Deferred()
    ended = []

    async def work(name: str) -> None:
        try:
            await Deferred()
        finally:
            if name == "tidy":
                await cleaning
            ended.append(name)

    over = [results(background.run(work(name), "working")) for name in ("quick", "tidy")]
    cancelled = results(background.cancel())
    assert ended == ["quick"]
    assert over == [[None], []]
    assert cancelled == []
    cleaning.callback(None)
    assert ended == ["quick", "tidy"]
    assert over == [[None], [None]]
    assert cancelled == [None]


def test_cancel_nothing(background: Background) -> None:
    """Where nothing runs, to cancel is done at once."""
    assert results(background.cancel()) == [None]


def test_nothing_is_begun_while_cancelling(background: Background) -> None:
    """What is ended can't begin anything anew; when all has ended, others can."""
    begun = []
    cleaning: Deferred[None] = Deferred()

    async def next_work() -> None:
        begun.append(True)

    async def work() -> None:
        try:
            await Deferred()
        finally:
            background.run(next_work(), "beginning anew")
            await cleaning

    background.run(work(), "working")
    cancelled = results(background.cancel())
    assert results(background.run(next_work(), "working")) == [None]
    cleaning.callback(None)
    assert cancelled == [None]
    assert begun == []
    background.run(next_work(), "working")
    assert begun == [True]


def test_cancel_twice(background: Background) -> None:
    """All who cancel are told when nothing runs any more."""
    cleaning: Deferred[None] = Deferred()

    async def work() -> None:
        try:
            await Deferred()
        finally:
            await shielded(cleaning)

    background.run(work(), "working")
    first, second = results(background.cancel()), results(background.cancel())
    cleaning.callback(None)
    assert first == second == [None]


def test_end_that_nobody_waits_for(background: Background) -> None:
    """One who waits no more for the end of some work does not disturb it."""
    waiting: Deferred[None] = Deferred()

    async def work() -> None:
        await waiting

    over = background.run(work(), "working")
    given_up = results(over)
    over.cancel()
    waiting.callback(None)
    assert isinstance(given_up[0], CancelledError)
    assert results(background.cancel()) == [None]


# --- shielded -----------------------------------------------------------------


def test_shielded() -> None:
    """The answer is the work's, good or bad."""
    good: Deferred[int] = Deferred()
    bad: Deferred[int] = Deferred()
    answers = results(shielded(good)), results(shielded(bad))
    good.callback(5)
    bad.errback(NotReady("not yet"))
    assert (answers[0], str(answers[1][0])) == ([5], "not yet")


def test_shielded_cancelled() -> None:
    """Who gives up is told so at once; the work goes on."""
    work: Deferred[int] = Deferred()
    answer = shielded(work)
    given_up = results(answer)
    answer.cancel()
    assert isinstance(given_up[0], CancelledError)
    assert not work.called
    work.callback(5)


def test_shielded_timeout(clock: Clock) -> None:
    """A deadline ends the wait alone."""
    work: Deferred[int] = Deferred()
    given_up = results(shielded(work).addTimeout(5, clock))
    clock.advance(5)
    assert len(given_up) == 1
    work.callback(5)


@pytest.mark.parametrize(
    ("error", "logged"), [(ZeroDivisionError(), 1), (NotReady("not yet"), 0), (CancelledError(), 0)]
)
def test_shielded_fails_late(error: Exception, logged: int, logged_failures: LoggedFailures) -> None:
    """What fails when nobody waits any more is logged; with its trace if nobody expected it."""
    work: Deferred[int] = Deferred()
    answer = shielded(work)
    results(answer)
    answer.cancel()
    work.errback(error)
    assert len(logged_failures.flush()) == logged


# --- Backoff ------------------------------------------------------------------


def test_backoff_grows_to_its_cap(clock: Clock) -> None:
    """Each wait is up to twice the last, never above the cap, and so for ever."""
    backoff = Backoff(clock, first=1, cap=10, chance=lambda: 1.0)
    assert [backoff.delay() for _ in range(5)] == [1, 2, 4, 8, 10]
    assert {backoff.delay() for _ in range(5000)} == {10}


def test_backoff_has_chance_in_it(clock: Clock) -> None:
    """A wait is at least half as long as it may be."""
    backoff = Backoff(clock, first=1, cap=10, chance=lambda: 0.0)
    assert [backoff.delay() for _ in range(5)] == [0.5, 1, 2, 4, 5]
    assert len({Backoff(clock).delay() for _ in range(20)}) > 1


def test_backoff_waits(clock: Clock) -> None:
    """A wait takes that long, and can be given up."""
    backoff = Backoff(clock, first=2, cap=10, chance=lambda: 1.0)
    waited = results(backoff.wait())
    clock.advance(1.9)
    assert waited == []
    clock.advance(0.1)
    assert waited == [None]
    second = backoff.wait()
    results(second)
    second.cancel()
    assert clock.getDelayedCalls() == []


# --- Periodic -----------------------------------------------------------------


class Work:
    """Counts how often it is done; takes some seconds each time."""

    def __init__(self, clock: Clock, background: Background) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.began: list[float] = []
        self.at_once = self.most_at_once = 0
        self.then: Callable[[], None] = lambda: None
        self.periodic = Periodic(clock, 10, self.once, "working", background)

    async def once(self) -> None:
        self.began.append(self.clock.seconds())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.seconds:
                await deferLater(self.clock, self.seconds)
            self.then()
        finally:
            self.at_once -= 1

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)


@pytest.fixture
def work(clock: Clock, background: Background) -> Work:
    return Work(clock, background)


def test_periodic(work: Work) -> None:
    """The pause is counted from the end of the last time."""
    work.seconds = 5
    work.periodic.start()
    work.pass_time(40)
    assert work.began == [0, 15, 30]
    assert work.most_at_once == 1


def test_periodic_not_now(work: Work) -> None:
    """The first time can be after the first pause."""
    work.periodic.start(now=False)
    work.pass_time(25)
    assert work.began == [10, 20]


def test_periodic_fails(work: Work, logged_failures: LoggedFailures) -> None:
    """A failure is logged, and the next time comes all the same."""

    def divide() -> None:
        raise ZeroDivisionError

    work.then = divide
    work.periodic.start()
    work.pass_time(20)
    assert work.began == [0, 10, 20]
    assert len(logged_failures.flush(ZeroDivisionError)) == 3


def test_periodic_work_that_can_not_be_made(
    clock: Clock, background: Background, logged_failures: LoggedFailures
) -> None:
    """Also when not even a coroutine comes of it, the next time comes."""
    tries = []

    def make() -> Any:
        tries.append(clock.seconds())
        raise ZeroDivisionError

    periodic = Periodic(clock, 10, make, "working", background)
    periodic.start()
    clock.advance(10)
    assert tries == [0, 10]
    assert len(logged_failures.flush(ZeroDivisionError)) == 2


def test_soon(work: Work) -> None:
    """What is asked for soon is done now, and the pause is counted from there."""
    work.periodic.start()
    work.pass_time(4)
    work.periodic.soon()
    work.pass_time(16)
    assert work.began == [0, 4, 14]


def test_soon_while_busy(work: Work) -> None:
    """Asked for any number of times while it goes on, it is done once more, right after."""
    work.seconds = 3
    work.periodic.start()
    work.pass_time(1)
    for _ in range(5):
        work.periodic.soon()
    work.pass_time(12)
    assert work.began == [0, 3]
    work.pass_time(5)
    assert work.began == [0, 3, 16]
    assert work.most_at_once == 1


def test_soon_from_within(work: Work) -> None:
    """Work that asks for itself is done again when others have had their turn."""

    def ask() -> None:
        if len(work.began) < 3:
            work.periodic.soon()

    work.then = ask
    work.periodic.start()
    assert work.began == [0]
    work.clock.advance(0)
    assert work.began == [0, 0, 0]


def test_soon_when_stopped(work: Work) -> None:
    """What has not been started, or was stopped, is not done soon either."""
    work.periodic.soon()
    work.periodic.start()
    work.periodic.stop()
    work.periodic.soon()
    work.pass_time(20)
    assert work.began == [0]
    assert work.clock.getDelayedCalls() == []


def test_stop_while_busy(work: Work) -> None:
    """What goes on when it is stopped goes on to its end, and is the last time."""
    work.seconds = 3
    work.periodic.start()
    work.periodic.soon()
    work.periodic.stop()
    work.pass_time(40)
    assert work.began == [0]
    assert work.at_once == 0
    assert work.clock.getDelayedCalls() == []


def test_cancelled_with_its_background(work: Work, background: Background) -> None:
    """Stopped first, what is cancelled in the background leaves nothing behind."""
    work.seconds = 3
    work.periodic.start()
    work.pass_time(1)
    work.periodic.stop()
    assert results(background.cancel()) == [None]
    assert work.at_once == 0
    assert work.clock.getDelayedCalls() == []


def test_cancelled_alone(work: Work, background: Background) -> None:
    """If only the background is cancelled, the next time comes all the same."""
    work.seconds = 3
    work.periodic.start()
    work.pass_time(1)
    background.cancel()
    work.pass_time(11)
    assert work.began == [0, 11]


@pytest.mark.parametrize("now", [True, False])
def test_started_again(work: Work, now: bool) -> None:
    """Started twice, or stopped and started while it is busy, it is still done once at a time."""
    work.seconds = 3
    work.periodic.start()
    work.periodic.start(now)
    work.pass_time(1)
    work.periodic.stop()
    work.periodic.start(now)
    work.pass_time(30)
    assert work.began == ([0, 3, 16, 29] if now else [0, 13, 26])
    assert work.most_at_once == 1
    work.periodic.stop()
    work.pass_time(5)
    assert work.clock.getDelayedCalls() == []


def test_steps(clock: Clock) -> None:
    """Others have their turn whenever so much was done, and not before."""
    done: list[int] = []

    async def work() -> None:
        steps = Steps(clock, size=3)
        for some in steps.slices(range(8)):
            done.extend(some)
            await steps.did(len(some))

    seen: list[int] = []

    def other() -> None:
        seen.append(len(done))
        if len(done) < 8:
            clock.callLater(0, other)

    finished = results(Deferred.fromCoroutine(work()))
    assert (done, finished) == ([0, 1, 2], [])
    other()
    clock.advance(0)
    assert (done, finished) == (list(range(8)), [None])
    assert seen == [3, 6, 8]
    assert clock.getDelayedCalls() == []


def test_short_work_needs_no_steps(clock: Clock) -> None:
    """What is less than a step is done at once."""
    assert results(Deferred.fromCoroutine(Steps(clock).did(STEP - 1))) == [None]
    assert results(Deferred.fromCoroutine(Steps(clock).did(STEP))) == []
