"""Reading output from an engine that a script plays, on a clock that the test turns."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from flynnhost.containers.entries import PIECE_BYTES, Entry, goes_on
from flynnhost.containers.log_places import stamp_of, streams_of
from flynnhost.containers.log_reader import HOLD, LogReader
from flynnhost.containers.log_sinks import EntrySink, TextSink
from flynnhost.containers.log_source import ISnapshot, LogRequest
from flynnhost.errors import EngineUnavailable, NoSuchContainer, PositionGone
from flynnhost.interfaces import ILogStream, LogQuery
from flynnhost.log_position import LogPosition
from flynnhost.testing.container_rig import OutputRecorder
from tests.conftest import LoggedFailures

FOLLOW = LogQuery(follow=True)

BEGIN = int(datetime(2026, 11, 24, 1, tzinfo=UTC).timestamp())


def stamp(number: int) -> bytes:
    return b"2026-11-24T01:%02d:%02d.000000000Z" % (number // 60, number % 60)


@define(eq=False)
class Snapshot:
    """A part of the output; so many entries can be read at a time."""

    entries: list[Entry]
    at_a_time: int = 3
    closed: bool = False
    error: Exception | None = None
    waiting: Deferred[list[Entry] | None] | None = None
    taken: int = 0

    def read(self) -> Deferred[list[Entry] | None]:
        if self.error is not None:
            return fail(self.error)
        taken = self.entries[self.taken : self.taken + self.at_a_time]
        self.taken += len(taken)
        return succeed(taken or None)

    def close(self) -> None:
        self.closed = True


@define(eq=False)
class Following(Snapshot):
    """What follows the container: says nothing until the test does."""

    def read(self) -> Deferred[list[Entry] | None]:
        self.waiting = Deferred()
        return self.waiting

    def say(self, entries: list[Entry] | None) -> None:
        assert self.waiting is not None
        waiting, self.waiting = self.waiting, None
        waiting.callback(entries)

    def break_off(self) -> None:
        assert self.waiting is not None
        self.waiting.errback(EngineUnavailable("gone"))


@define(eq=False)
class Engine:
    """A container's output, and a record of what was asked."""

    entries: list[Entry] = field(factory=list)
    is_running: bool = True
    error: Exception | None = None
    break_after: int | None = None
    asked: list[LogRequest] = field(factory=list)
    snapshots: list[Snapshot] = field(factory=list)
    times: int = 0
    at_a_time: int = 3
    before_following: Callable[[], None] = lambda: None

    def write(self, *lines: bytes, stream: int = 1) -> None:
        for line in lines:
            self.times += 1
            for begin in range(0, len(line), PIECE_BYTES):
                self.entries.append((stream, stamp(self.times), line[begin : begin + PIECE_BYTES]))

    def ask(self, request: LogRequest) -> Deferred[ISnapshot]:
        self.asked.append(request)
        if self.error is not None:
            return fail(self.error)
        if request.follow:
            self.before_following()
            following = Following([])
            self.snapshots.append(following)
            return succeed(following)
        entries = self.entries[:]
        if request.tail is not None:
            entries = entries[-request.tail :] if request.tail else []
        if request.since_ns is not None:
            entries = [each for each in entries if each[1] >= stamp_of(request.since_ns)]
        snapshot = Snapshot(entries, self.at_a_time)
        self.snapshots.append(snapshot)
        return succeed(snapshot)

    def running(self) -> Deferred[bool]:
        return succeed(self.is_running)

    @property
    def bell(self) -> Following:
        """What follows now."""
        open_ones = [each for each in self.snapshots if isinstance(each, Following) and not each.closed]
        assert len(open_ones) == 1
        return open_ones[0]

    @property
    def all_closed(self) -> bool:
        return all(each.closed for each in self.snapshots)


@define(eq=False)
class Reading:
    """A reader with all that is around it."""

    engine: Engine
    query: LogQuery = FOLLOW
    with_entries: bool = False
    patience: float = 5.0
    clock: Clock = field(factory=Clock)
    receiver: OutputRecorder = field(factory=OutputRecorder)
    agreed: list[ILogStream | Failure] = field(factory=list)
    closed: int = 0
    reader: LogReader = field(init=False)

    def __attrs_post_init__(self) -> None:
        streams = streams_of(self.query)
        sink = EntrySink(streams, self.receiver) if self.with_entries else TextSink(streams, self.receiver)
        self.reader = LogReader(
            self.clock, self.engine, self.query, sink, True, self.patience, lambda: 0.1, self._over
        )
        self.reader.start().addBoth(self.agreed.append)
        self.receiver.stream = self.reader

    def _over(self, _reader: LogReader) -> None:
        self.closed += 1

    def pass_time(self, seconds: float = 0.5) -> None:
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)

    @property
    def lines(self) -> list[bytes]:
        return self.receiver.of(1).splitlines()


def end(engine: Engine) -> None:
    engine.is_running = False
    engine.bell.say(None)


def test_follow() -> None:
    """What is written comes when the bell rings, each line once, and then the end."""
    engine = Engine()
    engine.write(b"a\n", b"b\n")
    reading = Reading(engine)
    assert reading.agreed == [reading.reader]
    assert reading.receiver.pieces == []
    reading.pass_time()
    assert reading.lines == [b"a", b"b"]
    for number in range(5):
        engine.write(b"line %d\n" % number)
        engine.bell.say([engine.entries[-1]])
        reading.pass_time(1.0)
    assert reading.lines == [b"a", b"b", *(b"line %d" % number for number in range(5))]
    engine.write(b"last\n")
    end(engine)
    reading.pass_time()
    assert reading.lines[-1] == b"last"
    assert (reading.receiver.ended, reading.receiver.error, reading.closed) == (True, None, 1)
    assert engine.all_closed
    assert reading.clock.getDelayedCalls() == []


def test_what_comes_while_the_bell_is_hung() -> None:
    """What is written before the bell is there is not missed."""
    engine = Engine()
    engine.before_following = lambda: engine.write(b"a\n")
    reading = Reading(engine)
    reading.pass_time(0.2)
    assert reading.lines
    assert reading.lines == [b"a"] * engine.times


def test_bell_that_hangs() -> None:
    """A bell that never rings delays output by some seconds at most."""
    engine = Engine()
    reading = Reading(engine)
    reading.pass_time(60)
    asked = len(engine.asked)
    engine.write(b"a\n")
    reading.pass_time(10.5)
    assert reading.lines == [b"a"]
    assert asked < 20


def test_bell_that_rings_for_nothing() -> None:
    """A bell that rings without need does not make the reader look all the time."""
    engine = Engine()
    reading = Reading(engine)
    reading.pass_time()
    asked = len(engine.asked)
    for _ in range(40):
        if any(isinstance(each, Following) and each.waiting and not each.closed for each in engine.snapshots):
            engine.bell.say([(1, stamp(1), b"x\n")])
        reading.clock.advance(0.05)
    assert len(engine.asked) - asked < 60


def test_busy_container() -> None:
    """A container that writes all the time is looked at now and then, without a bell."""
    engine = Engine()
    engine.write(b"0\n")
    reading = Reading(engine)
    for number in range(1, 200):
        engine.write(b"%d\n" % number)
        reading.clock.advance(0.02)
    assert not any(request.follow for request in engine.asked)
    assert len(engine.asked) < 60
    reading.pass_time()
    assert reading.lines == [b"%d" % number for number in range(200)]


def test_far_behind() -> None:
    """However much was written during a pause, it is found and comes whole."""
    engine = Engine()
    engine.write(b"0\n")
    reading = Reading(engine)
    reading.pass_time()
    reading.reader.pauseProducing()
    for number in range(1, 3000):
        engine.write(b"%d\n" % number)
    engine.bell.say([engine.entries[-1]])
    reading.pass_time()
    assert reading.lines == [b"0"]
    reading.reader.resumeProducing()
    reading.pass_time()
    assert reading.lines == [b"%d" % number for number in range(3000)]


def test_gone() -> None:
    """When the entry after which to go on was dropped, that is an error."""
    engine = Engine()
    engine.write(b"0\n", b"1\n")
    reading = Reading(engine)
    reading.pass_time()
    engine.write(*(b"%d\n" % number for number in range(2, 50)))
    del engine.entries[:10]
    engine.bell.say([engine.entries[-1]])
    reading.pass_time()
    assert reading.lines == [b"0", b"1"]
    assert isinstance(reading.receiver.error, PositionGone)
    assert engine.all_closed


def test_gone_far_behind() -> None:
    """That an entry was dropped long ago is found out without looking through everything."""
    engine = Engine()
    engine.entries = [(1, b"2026-11-24T02:00:00.%09dZ" % number, b"x\n") for number in range(400_000)]
    after = LogPosition(b"2026-11-24T01:00:00.000000000Z", 1, 0, 0, False)
    reading = Reading(engine, LogQuery(after=after))
    assert isinstance(reading.agreed[0], Failure)
    reading.agreed[0].trap(PositionGone)
    assert len(engine.asked) < 6
    assert sum(each.taken for each in engine.snapshots) < 6000


def test_all_gone() -> None:
    """Output that is not there at all any more is an error too."""
    engine = Engine()
    engine.write(b"0\n")
    reading = Reading(engine)
    reading.pass_time()
    engine.entries.clear()
    engine.bell.say([(1, stamp(9), b"x\n")])
    reading.pass_time()
    assert isinstance(reading.receiver.error, PositionGone)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_within_a_long_line(kept: int) -> None:
    """The pieces of a line of the same bytes throughout are not mistaken for each other."""
    engine = Engine()
    engine.write(b"x" * (40 * PIECE_BYTES) + b"\n", b"short\n")
    everything = Reading(engine, LogQuery(), with_entries=True)
    everything.pass_time()
    entries = everything.receiver.entries
    assert [each.position.partial for each in entries] == [True] * 40 + [False] * 2
    for number, entry in enumerate(entries):
        rest = Reading(engine, LogQuery(after=entry.position), with_entries=True)
        rest.pass_time()
        assert rest.receiver.entries == entries[number + 1 :]
    # What is left of the line now begins with another piece.
    engine.entries = engine.entries[-kept - 2 :]
    rest = Reading(engine, LogQuery(after=entries[39].position), with_entries=True)
    rest.pass_time()
    assert isinstance(rest.agreed[0], Failure)
    rest.agreed[0].trap(PositionGone)


def test_lost_newline() -> None:
    """The newline that Docker loses at the end of a long line is put back when something follows."""
    engine = Engine()
    engine.write(b"x" * (PIECE_BYTES + 5), b"short\n")
    engine.write(b"e" * PIECE_BYTES, stream=2)
    engine.entries.append((2, stamp(engine.times), b""))
    engine.write(b"e\n", stream=2)
    reading = Reading(engine, LogQuery())
    reading.pass_time()
    assert reading.receiver.of(1) == b"x" * (PIECE_BYTES + 5) + b"\nshort\n"
    assert reading.receiver.of(2) == b"e" * PIECE_BYTES + b"\ne\n"


def test_clock_set_back() -> None:
    """What was written after the engine's clock was set back comes all the same."""
    engine = Engine(times=1000)
    engine.write(b"0\n")
    reading = Reading(engine)
    reading.pass_time()
    engine.times = 10
    engine.write(b"1\n", b"2\n")
    engine.bell.say([engine.entries[-1]])
    reading.pass_time()
    assert reading.lines == [b"0", b"1", b"2"]


@pytest.mark.parametrize("count", [0, 1, 3, 17, 5000])
@pytest.mark.parametrize("follow", [False, True])
def test_tail(count: int, follow: bool) -> None:
    """So many of the last lines of one stream, wherever they are, and then what comes."""
    engine = Engine()
    for number in range(2500):
        engine.write(b"%d\n" % number, stream=2 if number % 100 == 0 else 1)
    written = [b"%d\n" % number for number in range(0, 2500, 100)]
    query = LogQuery(stdout=False, tail=count, follow=follow)
    reading = Reading(engine, query)
    reading.pass_time()
    assert reading.receiver.of(2) == b"".join(written[-count:] if count else [])
    if follow:
        engine.write(b"new\n", stream=2)
        engine.bell.say([engine.entries[-1]])
        reading.pass_time()
        assert reading.receiver.of(2).endswith(b"new\n")
    assert reading.receiver.of(1) == b""


def test_long_tail() -> None:
    """A tail of many lines is found without a place being kept for each, and is exact."""
    engine = Engine()
    engine.write(*(b"%d\n" % number for number in range(3500)))
    for count in (1001, 2222, 3499, 3500):
        reading = Reading(engine, LogQuery(stderr=False, tail=count))
        reading.pass_time()
        assert reading.lines == [b"%d" % number for number in range(3500 - count, 3500)]


@pytest.mark.parametrize("follow", [False, True])
def test_since(follow: bool) -> None:
    """Only what was written from a time on; with a tail, only as many of those."""
    engine = Engine()
    engine.write(*(b"%d\n" % number for number in range(100)))
    for tail, expected in ((None, range(89, 100)), (200, range(89, 100)), (3, range(97, 100))):
        query = LogQuery(since_ns=(BEGIN + 90) * 10**9, tail=tail, follow=follow)
        reading = Reading(engine, query)
        reading.pass_time()
        assert reading.lines == [b"%d" % number for number in expected]
        reading.reader.stopProducing()


def test_since_with_a_long_tail() -> None:
    """The lines that are not in the tail are passed over before the time is looked at."""
    engine = Engine()
    engine.write(*(b"%d\n" % number for number in range(2500)))
    reading = Reading(engine, LogQuery(since_ns=(BEGIN + 100) * 10**9, tail=2499))
    reading.pass_time()
    assert reading.lines == [b"%d" % number for number in range(99, 2500)]


def test_tail_and_position() -> None:
    """Who continues gets all that follows, whatever tail is asked for."""
    engine = Engine()
    engine.write(*(b"%d\n" % number for number in range(10)))
    everything = Reading(engine, LogQuery(), with_entries=True)
    everything.pass_time()
    after = everything.receiver.entries[4].position
    for tail in (0, 1):
        reading = Reading(engine, LogQuery(after=after, tail=tail))
        reading.pass_time()
        assert reading.lines == [b"%d" % number for number in range(5, 10)]


def test_since_later() -> None:
    """Who waits for a time that has not come gets what is written then, and nothing before."""
    engine = Engine()
    engine.write(b"early\n")
    reading = Reading(engine, LogQuery(follow=True, since_ns=(BEGIN + 5) * 10**9))
    engine.write(b"early too\n")
    reading.pass_time(2)
    engine.times = 5
    engine.write(b"late\n")
    engine.bell.say([engine.entries[-1]])
    reading.pass_time()
    assert reading.lines == [b"late"]
    # Not everything was looked at each time.
    assert sum(request.tail is None for request in engine.asked) == 1


def test_engine_away() -> None:
    """An engine that is away for a while does no harm."""
    engine = Engine()
    engine.write(b"0\n")
    reading = Reading(engine)
    reading.pass_time()
    engine.bell.break_off()
    engine.error = EngineUnavailable("gone")
    reading.pass_time(3)
    engine.error = None
    engine.write(b"1\n")
    reading.pass_time(3)
    assert reading.lines == [b"0", b"1"]
    assert not reading.receiver.ended


def test_engine_away_for_long() -> None:
    """When the engine does not come back, the output breaks off."""
    engine = Engine()
    reading = Reading(engine)
    reading.pass_time()
    engine.error = EngineUnavailable("gone")
    engine.bell.break_off()
    reading.pass_time(4)
    assert not reading.receiver.ended
    reading.pass_time(4)
    assert str(reading.receiver.error) == str(EngineUnavailable("gone"))
    assert reading.clock.getDelayedCalls() == []


def test_breaks_off_in_the_middle() -> None:
    """A part that breaks off is read again from where it did."""
    engine = Engine()
    engine.write(*(b"%d\n" % number for number in range(10)))
    reading = Reading(engine)
    reading.reader.pauseProducing()
    engine.snapshots[-1].error = EngineUnavailable("broke off")
    reading.reader.resumeProducing()
    reading.pass_time(2)
    assert reading.lines == [b"%d" % number for number in range(10)]


def test_container_removed() -> None:
    """When the container is gone, so is its output."""
    engine = Engine()
    reading = Reading(engine)
    reading.pass_time()
    engine.error = NoSuchContainer("c")
    engine.bell.say([(1, stamp(1), b"x\n")])
    reading.pass_time()
    assert isinstance(reading.receiver.error, NoSuchContainer)


@pytest.mark.parametrize("error", [EngineUnavailable("gone"), NoSuchContainer("c")])
def test_refused_at_first(error: Exception) -> None:
    """What goes wrong before anything came is told to who asked."""
    reading = Reading(Engine(error=error))
    assert isinstance(reading.agreed[0], Failure)
    assert reading.agreed[0].value is error
    assert not reading.receiver.ended
    assert reading.closed == 1


def test_pause_for_long() -> None:
    """Who pauses for long holds nothing of the engine, and goes on from there."""
    engine = Engine()
    engine.write(*(b"%d\n" % number for number in range(10)))
    reading = Reading(engine)
    reading.receiver.pause_at_first = True
    reading.pass_time(1)
    assert len(reading.receiver.pieces) == 1
    assert not engine.all_closed
    reading.clock.advance(HOLD)
    assert engine.all_closed
    reading.reader.resumeProducing()
    reading.pass_time(1)
    assert reading.lines == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize("when", ["at once", "while it waits", "while it rests", "in a pause"])
def test_stop(when: str) -> None:
    """Who stops it hears nothing more, and nothing is left."""
    engine = Engine()
    engine.write(b"0\n")
    reading = Reading(engine)
    if when == "while it rests":
        reading.clock.advance(0)
    elif when != "at once":
        reading.pass_time()
    if when == "in a pause":
        reading.reader.pauseProducing()
    before = len(reading.receiver.pieces)
    reading.reader.stopProducing()
    reading.reader.stopProducing()
    assert reading.clock.getDelayedCalls() == []
    assert engine.all_closed
    assert reading.closed == 1
    engine.write(b"1\n")
    reading.pass_time(20)
    assert len(reading.receiver.pieces) == before
    assert not reading.receiver.ended


def stop_at_first(receiver: OutputRecorder) -> None:
    assert receiver.stream is not None
    receiver.stream.stopProducing()


def fail_at_first(_receiver: OutputRecorder) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("reaction", [stop_at_first, fail_at_first])
def test_from_within(reaction: Callable[[OutputRecorder], None], logged_failures: LoggedFailures) -> None:
    """A receiver may stop the stream from within, and ends it by failing."""

    class Receiver(OutputRecorder):
        def output_received(self, stream: int, data: bytes) -> None:
            super().output_received(stream, data)
            reaction(self)

    engine = Engine()
    engine.write(*(b"%d\n" % number for number in range(10)))
    reading = Reading(engine, receiver=Receiver())
    reading.pass_time(2)
    assert len(reading.receiver.pieces) == 1
    assert not reading.receiver.ended
    assert engine.all_closed
    assert reading.clock.getDelayedCalls() == []
    assert len(logged_failures.flush(ZeroDivisionError)) == (reaction is fail_at_first)


def test_broken_off_from_our_side() -> None:
    """When all is closed, the receiver hears that this was not the end."""
    engine = Engine()
    reading = Reading(engine)
    reading.pass_time()
    reading.reader.break_off()
    reading.reader.break_off()
    assert isinstance(reading.receiver.error, EngineUnavailable)
    assert engine.all_closed
    assert reading.clock.getDelayedCalls() == []


def test_goes_on() -> None:
    """Only a full piece without a newline goes on."""
    assert goes_on(b"x" * PIECE_BYTES)
    assert not goes_on(b"x" * (PIECE_BYTES - 1) + b"\n")
    assert not goes_on(b"x")


@pytest.mark.parametrize("place", [10, 60_000])
def test_far_from_the_end(place: int) -> None:
    """A place far from the end is found from whichever end is nearer, with little read in vain."""
    engine = Engine(at_a_time=1000)
    engine.entries = [
        (1, b"2026-11-24T01:%02d:%02d.%09dZ" % (number // 6000, number // 100 % 60, number % 100), b"x\n")
        for number in range(120_000)
    ]
    stream, when, data = engine.entries[place]
    after = LogPosition(when, stream, 0, zlib.crc32(data), False)
    reading = Reading(engine, LogQuery(after=after))
    reading.pass_time()
    assert len(reading.lines) == 120_000 - place - 1
    assert sum(each.taken for each in engine.snapshots) < (120_000 - place) + 40_000
